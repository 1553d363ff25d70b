// A file chooser that looks at the size first: a message that is too long would cut the connection to the kernel.
function render({ model, el }) {
  const label = el.appendChild(document.createElement("label"));
  label.className = "jupyter-button widget-button zf-upload";
  label.textContent = "Your own picture …";
  const input = label.appendChild(document.createElement("input"));
  Object.assign(input, { type: "file", accept: "image/*" });
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    const content = file.size <= model.get("largest") ? [await file.arrayBuffer()] : [];
    model.send({ name: file.name, size: file.size }, undefined, content);
    input.value = ""; // the same file may be chosen again
  });
}

export default { render };
