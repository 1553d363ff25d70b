// The widget manager leaves its sliders without a name: they take that of the label beside them.
const nameSliders = () => {
  for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
    if (label) handle.setAttribute("aria-label", label.textContent);
  }
};
new MutationObserver(nameSliders).observe(document.documentElement, { childList: true, subtree: true });

// A figure opens at its full size; a click, a tap or Escape closes it.
const FIGURES = ".bd-article :is(.cell_output, figure) img:not(.jupyter-widgets *)";

const enlarge = (image) => {
  const dialog = document.createElement("dialog");
  const whole = new Image();
  [whole.src, whole.alt] = [image.currentSrc, image.alt];
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", image.alt || "figure");
  dialog.append(whole);
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", ({ key }) => key === "Escape" && dialog.close()); // which the theme may keep
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
};

document.addEventListener("click", (event) => {
  // Some figures stand in a link to themselves, which the keyboard reaches.
  const image = event.target.closest?.(FIGURES) ?? event.target.closest?.("a")?.querySelector(FIGURES);
  if (!image) return;
  event.preventDefault();
  enlarge(image);
});

document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(FIGURES)) {
    if (image.closest("a")) continue;
    Object.assign(image, { tabIndex: 0, role: "button", title: "enlarge" });
    image.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(image);
    });
  }
});
