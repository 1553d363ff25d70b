// A picture with a grid laid over it: pointing, dragging and the arrow keys choose a cell, and a mark shows it.
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function render({ model, el }) {
  const add = (tag, parent, name) => Object.assign(parent.appendChild(document.createElement(tag)), { className: name });
  const pad = add("div", el, "zf-pad");
  const picture = add("img", pad, "zf-picture");
  const mark = add("div", pad, "zf-mark");
  const words = add("p", el, "zf-words");
  pad.tabIndex = 0;
  pad.setAttribute("role", "application");
  pad.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab leaves the arrow keys to us
  picture.draggable = false;
  words.setAttribute("role", "status");

  let at = model.get("place");
  const move = () => {
    const [rows, columns] = model.get("grid");
    const [top, left, height, width] = model.get("mark");
    const share = (n, all) => `${(100 * n) / all}%`;
    Object.assign(mark.style, {
      top: share(at[0] + top, rows), left: share(at[1] + left, columns),
      height: share(height, rows), width: share(width, columns),
    });
    mark.classList.toggle("zf-cover", model.get("covers"));
  };
  const show = () => {
    picture.src = model.get("picture");
    picture.alt = model.get("alt");
    picture.classList.toggle("zf-crisp", model.get("crisp"));
    pad.setAttribute("aria-label", `${model.get("alt")}; ${model.get("hint")}`);
    words.textContent = model.get("says");
  };
  const choose = (row, column) => {
    const [rows, columns] = model.get("grid");
    const inside = (n, all) => Math.min(Math.max(Math.floor(n), 0), all - 1);
    at = [inside(row, rows), inside(column, columns)];
    move();
    model.set("pointed", [...at, model.get("pointed")[2] + 1]); // of many, ipywidgets sends the latest alone
    model.save_changes();
  };
  const point = ({ clientX, clientY }) => {
    const box = picture.getBoundingClientRect();
    const [rows, columns] = model.get("grid");
    choose((rows * (clientY - box.top)) / box.height, (columns * (clientX - box.left)) / box.width);
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    point(event);
  });
  pad.addEventListener("pointermove", (event) => pad.hasPointerCapture(event.pointerId) && point(event));
  pad.addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const [down, right] = ARROWS[event.key].map((n) => n * model.get("step"));
    choose(at[0] + down, at[1] + right);
  });

  for (const trait of ["picture", "alt", "hint", "says", "crisp"]) model.on(`change:${trait}`, show);
  for (const trait of ["grid", "mark", "covers"]) model.on(`change:${trait}`, move);
  model.on("change:place", () => {
    const [row, column, answered] = model.get("place");
    if (answered < model.get("pointed")[2]) return; // the answer to an earlier place
    at = [row, column];
    move();
  });
  show();
  move();
}

export default { render };
