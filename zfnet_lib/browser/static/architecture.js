/* The architecture as the map that one clicks through, drawn as Fig. 3 draws it: maps one behind the other, the
 * pooled ones beside them, and on each stack the window of the filter that looks down on it from the next layer.
 *
 * Sides grow with the square root of the maps' sides; to scale the upper layers would be specks. Where the layers are
 * no sequence of filters and pools, they stand in a row of plain boxes instead.
 */
"use strict";

(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const NARROW = 560;
  const SHEETS = 7;

  /* Draw a network into its <nav>: a picture, and over it a link for each layer that the atlas holds. */
  zfnet.drawArchitecture = (nav, table, width, href) => {
    if (!table.architecture.every((layer) => layer.kernel || layer.units)) {
      const boxes = table.architecture.map((layer) => {
        const extent = `${layer.maps} × ${layer.side} × ${layer.side}`;
        return zfnet.make("li", "", {}, place(layer, lines(layer.name, extent, false), table, href));
      });
      nav.replaceChildren(zfnet.make("ol", "boxes", {}, ...boxes));
      return;
    }
    const narrow = width < NARROW;
    const columns = placed(table, width, narrow);
    const total = columns.at(-1).left + columns.at(-1).width;
    const height = narrow ? 68 : 112;
    const picture = drawing("svg", { width: total, height, viewBox: `0 0 ${total} ${height}`, "aria-hidden": "true" });
    const share = (side) => Math.sqrt(side / table.side);
    const room = columns.map((column) => column.width / (taken(column, share, narrow) || 1e-9));
    const largest = Math.min(height - 14, ...room.map((width) => 0.8 * width));
    const scale = (side) => Math.max(largest * share(side), 6);
    drawStacks(picture, columns, table, height / 2 + 3, scale, narrow);
    const list = zfnet.make("ol");
    for (const column of columns) list.append(item(column, table, href, narrow));
    const drawn = zfnet.make("div", "drawn", {}, picture, list);
    drawn.style.width = `${total}px`;
    drawn.classList.toggle("narrow", narrow);
    nav.replaceChildren(drawn);
  };

  /* Return the columns of the drawing: the input, each layer with maps, and all other layers together. */
  const placed = (table, width, narrow) => {
    const convs = table.architecture.filter((layer) => layer.maps);
    const dense = table.architecture.filter((layer) => layer.units);
    const columns = [{ kind: "input", weight: 1 }];
    for (const layer of convs) columns.push({ kind: "maps", layer, weight: layer.pool && !narrow ? 1.45 : 1 });
    if (dense.length) columns.push({ kind: "units", dense, weight: (narrow ? 0.3 : 0.52) * dense.length });
    const weights = columns.reduce((sum, column) => sum + column.weight, 0);
    const unit = Math.max(width / weights, narrow ? 44 : 56);
    let left = 0;
    for (const column of columns) {
      column.left = left;
      column.width = column.weight * unit;
      left += column.width;
    }
    return columns;
  };

  /* Return how much of a column its stacks take, in sides of the input. */
  const taken = ({ kind, layer }, share, narrow) => {
    if (kind === "units") return 0;
    if (kind === "input") return 1;
    return share(layer.side) + (layer.pool && !narrow ? share(layer.pooled) + 0.1 : 0);
  };

  const drawStacks = (picture, columns, table, axis, scale, narrow) => {
    const most = Math.max(...table.architecture.map((layer) => layer.maps || 0));
    const units = Math.max(...table.architecture.map((layer) => layer.units || 0));
    const deep = (maps) => Math.max(2, Math.round((SHEETS * maps) / most));
    let below = null;
    for (const column of columns) {
      const middle = column.left + column.width / 2;
      if (column.kind === "input") {
        below = stack(picture, middle, axis, scale(table.side), 3, "picture", narrow);
        below.side = table.side;
      } else if (column.kind === "maps") {
        const { layer } = column;
        const both = layer.pool && !narrow;
        const free = both ? column.width - scale(layer.side) - scale(layer.pooled) : 0;
        const start = column.left + free / 3;
        const maps = stack(picture, both ? start + scale(layer.side) / 2 : middle, axis, scale(layer.side), deep(layer.maps), "maps", narrow);
        link(picture, below, maps, layer.kernel / below.side);
        below = { ...maps, side: layer.side };
        if (both) {
          const behind = start + scale(layer.side) + free / 3 + scale(layer.pooled) / 2;
          const pooled = stack(picture, behind, axis, scale(layer.pooled), deep(layer.maps), "pooled", narrow);
          below = { ...pooled, side: layer.pooled };
        } else if (layer.pool) below.side = layer.pooled;
      } else {
        column.dense.forEach((layer, n) => {
          const tall = Math.max(2 * axis * 0.75 * Math.sqrt(layer.units / units), 6);
          const x = column.left + (column.width * (n + 0.5)) / column.dense.length;
          box(picture, x - 3, axis - tall / 2, 6, tall, "units");
        });
      }
    }
  };

  /* Draw sheets one behind the other; return the front one. */
  const stack = (picture, middle, axis, side, sheets, kind, narrow) => {
    const step = narrow ? 1.5 : 2.5;
    const x = middle - (side + (sheets - 1) * step) / 2;
    const y = axis - side / 2;
    for (let n = sheets - 1; n >= 0; n -= 1) box(picture, x + n * step, y - n * step * 0.6, side, side, kind);
    return { x, y, size: side, group: picture.lastChild };
  };

  /* Draw the window on the stack below, and lines from it to the place that it feeds. */
  const link = (picture, below, above, share) => {
    const side = Math.min(Math.max(share * below.size, 4), 0.9 * below.size);
    const x = below.x + 0.62 * below.size - side / 2;
    const y = below.y + 0.38 * below.size - side / 2;
    const to = { x2: above.x + 0.5 * above.size, y2: above.y + 0.5 * above.size };
    for (const corner of [y, y + side]) picture.append(drawing("line", { x1: x + side, y1: corner, ...to, class: "ray" }));
    box(picture, x, y, side, side, "window");
  };

  const box = (picture, x, y, width, height, kind) =>
    picture.append(drawing("rect", { x, y, width, height, class: kind, rx: 1 }));

  const drawing = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const item = (column, table, href, narrow) => {
    const { layer } = column;
    const shown = zfnet.make("li");
    shown.style.left = `${column.left}px`;
    shown.style.width = `${column.width}px`;
    if (column.kind === "input") {
      shown.append(...lines("input", `${table.side} × ${table.side}`, narrow));
    } else if (column.kind === "units") {
      const names = column.dense.map((dense) => dense.name);
      shown.append(...lines(narrow ? "fc" : names.join(", "), column.dense.map((dense) => dense.units).join(", "), narrow));
    } else {
      shown.append(place(layer, lines(layer.name, `${layer.maps} maps`, narrow), table, href));
    }
    return shown;
  };

  /* Return what stands for a layer: a link where the atlas holds it. */
  const place = (layer, words, table, href) => {
    const known = table.layers.find((each) => each.layer === layer.name);
    const made = zfnet.make(known ? "a" : "span", "layer", { "data-layer": layer.name }, ...words);
    if (known) {
      made.href = href(layer.name);
      made.title = described(layer, known);
      made.setAttribute("aria-label", `${layer.name}: ${described(layer, known)}`);
    }
    return made;
  };

  const lines = (name, words, narrow) =>
    narrow ? [zfnet.make("b", "", {}, name)] : [zfnet.make("b", "", {}, name), zfnet.make("small", "", {}, words)];

  const described = (layer, known) => {
    const groups = layer.groups > 1 ? ` in ${layer.groups} groups` : "";
    const pool = layer.pool ? `, max pooling to ${layer.pooled} × ${layer.pooled}` : "";
    const filters = layer.kernel ? `, filters ${layer.kernel} × ${layer.kernel}${groups}, stride ${layer.stride}${pool}` : "";
    return `${layer.maps} maps of ${layer.side} × ${layer.side}${filters}; a unit sees ${zfnet.field(known)}`;
  };
})();
