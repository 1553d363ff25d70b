/* Small pictures on large sheets, and the few ways in which this page makes elements. */
"use strict";

(() => {
  /* Make an element: its class, its attributes, and what is in it. */
  zfnet.make = (name, className = "", attributes = {}, ...content) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...content);
    return element;
  };

  /* Let an element show one tile of a sheet, whatever its own size.
   *
   * A margin of one pixel of the tile is left out: enlarged, its neighbours would shine in. Tiles that are themselves
   * a few pixels, as filters are, are shown whole and with sharp pixels.
   */
  zfnet.paint = (element, url, { tile, columns, rows, exact = false }, column, row) => {
    const inset = exact ? 0 : 1;
    const seen = tile - 2 * inset;
    const size = (count) => `${(100 * count * tile) / seen}%`;
    const place = (n, count) => (count * tile === seen ? "0" : `${(100 * (n * tile + inset)) / (count * tile - seen)}%`);
    element.classList.add("tile");
    element.classList.toggle("exact", exact);
    element.style.backgroundImage = `url("${url}")`;
    element.style.backgroundSize = `${size(columns)} ${size(rows)}`;
    element.style.backgroundPosition = `${place(column, columns)} ${place(row, rows)}`;
  };

  /* Paint what a layer's cover shows of its n-th map. */
  zfnet.paintCover = (element, url, layer, count, n) => {
    const { tile, columns, exact } = layer.cover;
    const rows = Math.max(Math.ceil(count / columns), 1);
    zfnet.paint(element, url, { tile, columns, rows, exact }, n % columns, Math.floor(n / columns));
  };

  /* Return where a map's row stands: its sheet, and the sheet's rows. */
  zfnet.rowOf = (layer, count, n) => {
    const sheet = Math.floor(n / layer.rows);
    return { file: layer.sheets[sheet], row: n % layer.rows, rows: Math.min(layer.rows, count - sheet * layer.rows) };
  };

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  /* Let a key move in a grid of so many items: return the place that it leads to, or null where it does not move. */
  zfnet.step = (event, n, count, columns) => {
    const ends = { Home: 0, End: count - 1 };
    const moves = event.key in STEPS || event.key in ends;
    if (!moves || event.altKey || event.ctrlKey || event.metaKey) return null;
    event.preventDefault();
    event.stopPropagation();
    if (event.key in ends) return ends[event.key];
    const [across, down] = STEPS[event.key];
    const next = n + across + down * columns;
    return next >= 0 && next < count ? next : n;
  };

  /* Return a number with the three digits that count. */
  zfnet.number = (value) => value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
})();
