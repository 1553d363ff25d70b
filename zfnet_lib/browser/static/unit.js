/* One unit: its projection and patch, enlarged, and the picture that it comes from, the receptive field marked. */
"use strict";

(() => {
  /* Say how much a layer's units see. */
  zfnet.field = ({ field, stride }) => (stride ? `${field} × ${field} pixels` : "the whole input");

  /* Say where a unit was found. */
  zfnet.said = (table, entry, n) => {
    const { labels, answer } = zfnet.namesOf(table, entry.images[n]);
    if (labels.length) return labels.join(", ");
    return answer ? `taken for ${answer.name}` : shortName(table.seen[entry.images[n]].name);
  };

  const shortName = (name) => name.split("/").at(-1);

  /* Fill the panel of a pane with one unit of a map. */
  zfnet.showUnit = (panel, network, table, layer, entry, n) => {
    const image = entry.images[n];
    const seen = table.seen[image];
    const source = table.sources[seen.source];
    panel.querySelector("h2").textContent = `Unit ${n + 1} of ${entry.scores.length}`;
    const whole = panel.querySelector(".whole");
    whole.style.aspectRatio = `${source.size[0]} / ${source.size[1]}`;
    whole.style.maxWidth = `${Math.round((23 * source.size[0]) / Math.max(...source.size))}rem`;
    const field = within(entry.boxes[n], table.side, seen.window);
    const picture = zfnet.make("img", "", {
      alt: `The ${table.photographs ? "photograph" : "picture"} ${pictureName(table, image)}; marked on it ${placed(field)}.`,
    });
    zfnet.picture(network, source.file).then((url) => { picture.src = url; }, zfnet.complain);
    const view = zfnet.make("span", "view", { "aria-hidden": "true" });
    lay(view, seen.window);
    const mark = zfnet.make("span", "field", { "aria-hidden": "true" });
    lay(mark, field);
    whole.replaceChildren(picture, view, mark);
    panel.querySelector("figcaption").textContent =
      "Dashed: what the network saw. Solid: the unit’s receptive field in it.";
    panel.querySelector("dl").replaceChildren(...facts(table, layer, entry, n));
  };

  /* Return a box of the network's view as shares of the whole picture: what lies in the view of it. */
  const within = ([top, left, bottom, right], side, [x, y, width, height]) => {
    const inside = (value) => Math.min(Math.max(value, 0), side) / side;
    return [
      x + width * inside(left), y + height * inside(top),
      width * (inside(right) - inside(left)), height * (inside(bottom) - inside(top)),
    ];
  };

  const lay = (element, [left, top, width, height]) => {
    for (const [name, share] of Object.entries({ left, top, width, height })) element.style[name] = `${100 * share}%`;
  };

  const placed = ([left, top, width, height]) => {
    const third = (middle, words) => words[Math.min(Math.floor(3 * middle), 2)];
    const place = `${third(top + height / 2, ["top", "middle", "bottom"])} ${third(left + width / 2, ["left", "centre", "right"])}`;
    return `the receptive field, ${place.replace("middle centre", "in the middle")}, ${Math.max(Math.round(100 * width), 1)} % of its width`;
  };

  const pictureName = (table, image) => {
    const { labels } = zfnet.namesOf(table, image);
    return table.photographs ? labels[0] : table.seen[image].name;
  };

  const facts = (table, layer, entry, n) => {
    const image = entry.images[n];
    const { labels, answer } = zfnet.namesOf(table, image);
    const [row, column] = entry.places[n];
    const [top, left] = entry.boxes[n];
    const lines = [
      ["Activation", zfnet.number(entry.scores[n])],
      [table.photographs ? "Photograph" : "Picture", pictureName(table, image)],
    ];
    if (labels.length && !table.photographs) lines.push(["Label", labels.join(", ")]);
    if (answer) lines.push([`First answer of ${table.name}`, `${answer.name} (${percent(answer.sure)}), not a label`]);
    lines.push(["Place in the map", `row ${row}, column ${column}`]);
    lines.push(["Receptive field", layer.stride ? `${zfnet.field(layer)} at (${left}, ${top})` : zfnet.field(layer)]);
    return lines.map(([name, value]) => zfnet.make("div", "", {}, zfnet.make("dt", "", {}, name), zfnet.make("dd", "", {}, value)));
  };

  const percent = (share) => `${Math.round(100 * share)} %`;
})();
