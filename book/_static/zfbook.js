// The widget manager leaves its sliders without a name: they take that of the label beside them.
const nameSliders = () => {
  for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
    if (label) handle.setAttribute("aria-label", label.textContent);
  }
};
new MutationObserver(nameSliders).observe(document.documentElement, { childList: true, subtree: true });
