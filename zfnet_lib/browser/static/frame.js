/* Inside a page of the book: take its theme, and tell it how high this page is. Outside: take the theme of the book
 * that was read last, where this page lies in one; otherwise the one that the reader's system prefers.
 */
"use strict";

(() => {
  const root = document.documentElement;
  const dress = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  const remembered = () => {
    try {
      return localStorage.getItem("mode");
    } catch {
      return null;
    }
  };

  if (window.parent === window) {
    dress(remembered());
    return;
  }
  root.classList.add("framed");
  window.addEventListener("message", (event) => {
    if (event.source === window.parent && event.data && event.data.zfnet === "theme") dress(event.data.theme);
  });
  const tell = () => window.parent.postMessage({ zfnet: "height", height: document.body.offsetHeight }, "*");
  new ResizeObserver(tell).observe(document.body);
  window.parent.postMessage({ zfnet: "ready" }, "*");
})();
