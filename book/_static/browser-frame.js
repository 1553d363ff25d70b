/* Beside the frame that holds the browser: give it the place that the address of this page names, the theme of this
 * page, and as much height as it asks for.
 */
"use strict";

(() => {
  const frame = document.querySelector("iframe.zfnet-browser");
  const root = document.documentElement;
  if (location.hash.includes("/")) frame.src += location.hash; // headings of this page have no "/"
  const dress = () => frame.contentWindow.postMessage({ zfnet: "theme", theme: root.dataset.theme }, "*");

  window.addEventListener("message", (event) => {
    if (event.source !== frame.contentWindow) return;
    if (event.data.zfnet === "ready") dress();
    if (event.data.zfnet === "height") frame.style.height = `${Math.ceil(event.data.height)}px`;
  });
  new MutationObserver(dress).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
})();
