/* A pane: one network, one layer of it, one map of that, one of the map's nine units. */
"use strict";

(() => {
  const MOST = 24;

  zfnet.Pane = class {
    /* go(change) asks the page for another place; the page answers by show(). */
    constructor(go) {
      this.go = go;
      this.place = {};
      this.root = document.getElementById("pane").content.cloneNode(true).firstElementChild;
      this.find = (selector) => this.root.querySelector(selector);
      this.layers = this.find(".layers");
      this.cover = this.find(".cover");
      this.projections = this.find(".projections");
      this.patches = this.find(".patches");
      this.select = this.find(".network");
      for (const { name } of zfnet.networks) this.select.append(new Option(name, name));
      for (const name of Object.keys(zfnet.missing)) this.select.append(new Option(`${name} (not here)`, name));
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.layers);
    }

    listen() {
      this.select.addEventListener("change", () => this.go({ network: this.select.value, layer: "", map: null }));
      this.find(".before").addEventListener("click", () => this.step(-1));
      this.find(".after").addEventListener("click", () => this.step(1));
      this.find(".link").addEventListener("click", () => this.copy());
      this.find(".close").addEventListener("click", () => this.close());
      this.root.addEventListener("click", (event) => this.follow(event));
      this.cover.addEventListener("keydown", (event) => this.moveInCover(event));
      this.projections.addEventListener("keydown", (event) => this.moveInNine(event));
    }

    /* Show a place that exists; only what differs from the one before is drawn anew. */
    show(place, table, entries) {
      const before = this.place;
      const layer = table.layers.find((each) => each.layer === place.layer);
      const n = entries.findIndex((entry) => entry.map === place.map);
      Object.assign(this, { place, table, entries, layer, n });
      this.select.value = table.name; // also where one was asked for that is not here
      if (before.network !== place.network) this.showNetwork();
      if (before.network !== place.network || before.layer !== place.layer) this.showLayer();
      if (n >= 0) this.showMap();
      this.find(".body").classList.toggle("empty", n < 0);
    }

    get network() {
      return zfnet.networks.find((network) => network.name === this.place.network);
    }

    showNetwork() {
      const { table } = this;
      this.close(); // what was found, was found in the network before
      this.root.setAttribute("aria-label", table.name);
      const kind = table.name === table.network ? "" : `${table.network}, `;
      this.find(".facts").textContent = `${kind}${table.side} × ${table.side} pixels, strongest units over ${table.dataset}`;
      this.layers.setAttribute("aria-label", `Layers of ${table.name}`);
      this.drawnFor = 0;
      this.draw();
    }

    draw() {
      const width = this.layers.clientWidth;
      if (!this.table || !width || width === this.drawnFor) return;
      this.drawnFor = width;
      zfnet.drawArchitecture(this.layers, this.table, width, (layer) => zfnet.write([{ network: this.table.name, layer }]));
      this.markLayer();
    }

    markLayer() {
      for (const link of this.layers.querySelectorAll("a")) {
        const here = link.dataset.layer === this.place.layer;
        if (here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
        if (here) this.layers.scrollLeft += centre(link) - centre(this.layers); // into view, and nothing around it
      }
    }

    showLayer() {
      const { layer, entries } = this;
      this.markLayer();
      const first = layer.cover.exact;
      this.find(".maps h2").textContent = first ? `Filters of ${layer.layer}` : `Maps of ${layer.layer}`;
      this.find(".maps .soft").textContent = this.extent();
      this.cover.setAttribute("aria-label", first ? "The filters, one a map" : "The strongest projection of each map");
      const links = entries.map((entry) => {
        const href = zfnet.write([{ ...this.place, map: entry.map, unit: 1 }]);
        const label = `${layer.layer}, map ${entry.map}${first ? ": filter" : ""}`;
        return zfnet.make("a", "", { href, tabindex: -1, "aria-label": label, title: `map ${entry.map}`, "data-map": entry.map });
      });
      this.cover.replaceChildren(...links.map((link) => zfnet.make("li", "", {}, link)));
      this.cover.scrollTop = 0;
      if (!entries.length) return;
      zfnet.picture(this.network, layer.cover.sheet).then((url) => {
        links.forEach((link, n) => zfnet.paintCover(link, url, layer, entries.length, n));
      }, zfnet.complain);
    }

    /* Say which of a layer's maps are here. */
    extent() {
      const { layer, entries } = this;
      const silent = layer.maps - layer.active;
      const said = [entries.length === layer.maps ? `All ${layer.maps}.` : `${entries.length} of ${layer.maps}${entries.length < layer.active ? ", drawn at random" : ""}.`];
      const most = Math.max(...entries.map((entry) => entry.scores.length));
      const brief = entries.filter((entry) => entry.scores.length < most).length;
      if (brief) said.push(`${most} units of ${entries.length - brief} of them, fewer of the others.`);
      if (silent) said.push(`${silent} ${silent === 1 ? "is" : "are"} active on no picture.`);
      return said.join(" ");
    }

    showMap() {
      const { layer, entries, n, place } = this;
      const entry = entries[n];
      this.find(".map h2").textContent = `${layer.layer}, map ${entry.map}`;
      this.find(".before").disabled = n === 0;
      this.find(".after").disabled = n === entries.length - 1;
      const links = [...this.cover.querySelectorAll("a")];
      links.forEach((link, i) => {
        link.tabIndex = i === n ? 0 : -1;
        if (i === n) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
      reveal(this.cover, links[n]);
      this.showFilter();
      if (this.shown !== entry || this.shownIn !== place.network) this.showNine(entry);
      this.shown = entry;
      this.shownIn = place.network;
      this.showUnit(place.unit - 1);
    }

    showFilter() {
      const { layer, entries, n } = this;
      const filter = this.find(".filter");
      filter.hidden = !layer.cover.exact;
      if (filter.hidden) return;
      filter.setAttribute("aria-label", `Filter ${entries[n].map} of ${layer.layer}`);
      zfnet.picture(this.network, layer.cover.sheet).then((url) => {
        if (this.entries === entries) zfnet.paintCover(filter, url, layer, entries.length, n);
      }, zfnet.complain);
    }

    /* Draw the nine projections and the nine patches of a map. */
    showNine(entry) {
      const { layer, table } = this;
      this.projections.setAttribute("aria-label", "Projections, strongest first");
      this.patches.setAttribute("aria-label", "Patches");
      const whole = zfnet.rowOf(layer, this.entries.length, this.n);
      const all = entry.scores.map((score, i) => {
        const found = `activation ${zfnet.number(score)}, ${zfnet.said(table, entry, i)}`;
        const projection = zfnet.make("span", "small", { role: "radio", "data-unit": i + 1, "aria-label": `Projection ${i + 1}: ${found}` });
        const patch = zfnet.make("span", "small", { role: "img", "data-unit": i + 1, "aria-label": `Patch ${i + 1}: ${zfnet.said(table, entry, i)}` });
        return [projection, patch];
      });
      this.projections.replaceChildren(...all.map(([projection], i) => captioned(projection, zfnet.number(entry.scores[i]))));
      this.patches.replaceChildren(...all.map(([, patch], i) => captioned(patch, zfnet.said(table, entry, i))));
      const mine = (this.waiting = {});
      zfnet.picture(this.network, whole.file).then((url) => {
        if (this.waiting !== mine) return;
        all.flat().forEach((element, i) => this.paintTile(element, url, whole, i % 2, Math.floor(i / 2)));
        this.sheet = { url, whole };
        this.showLarge();
      }, zfnet.complain);
      this.sheet = null;
    }

    /* Paint one tile of a map's row: projections stand in its left half, patches in its right. */
    paintTile(element, url, { rows, row }, half, n) {
      const { tile } = this.table;
      zfnet.paint(element, url, { tile, columns: 18, rows }, half * 9 + n, row);
    }

    showUnit(n) {
      const radios = [...this.projections.querySelectorAll("[role=radio]")];
      radios.forEach((radio, i) => {
        radio.setAttribute("aria-checked", String(i === n));
        radio.tabIndex = i === n ? 0 : -1;
      });
      [...this.patches.querySelectorAll(".small")].forEach((patch, i) => patch.classList.toggle("chosen", i === n));
      zfnet.showUnit(this.find(".unit"), this.network, this.table, this.layer, this.entries[this.n], n);
      this.showLarge();
    }

    showLarge() {
      const { entries, n, layer, place, table } = this;
      const what = zfnet.said(table, entries[n], place.unit - 1);
      const names = [["Projection", `of unit ${place.unit} of ${layer.layer}, map ${entries[n].map}, on grey`], ["Patch", `that it sees: ${what}`]];
      const pair = names.map(([name, rest], half) => {
        const picture = zfnet.make("span", "big", { role: "img", "aria-label": `${name} ${rest}` });
        if (this.sheet) this.paintTile(picture, this.sheet.url, this.sheet.whole, half, place.unit - 1);
        return zfnet.make("figure", "", {}, picture, zfnet.make("figcaption", "", {}, name));
      });
      this.find(".large").replaceChildren(...pair);
    }

    /* Go to the map before or after. */
    step(by) {
      const entry = this.entries[this.n + by];
      if (entry) this.go({ map: entry.map, unit: 1 }, { quietly: true });
    }

    /* Go a layer up or down. */
    climb(by) {
      const layers = this.table.layers;
      const layer = layers[layers.indexOf(this.layer) + by];
      if (layer) this.go({ layer: layer.layer, map: null, unit: 1 });
    }

    choose(unit) {
      if (this.n >= 0 && unit <= this.entries[this.n].scores.length) this.go({ unit }, { quietly: true });
    }

    /* Follow a click on a link or on one of the nine within this pane, and leave the other pane as it is. */
    follow(event) {
      const unit = event.target.closest("[data-unit]");
      if (unit) this.choose(Number(unit.dataset.unit));
      const link = event.target.closest("a");
      if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      const [place] = zfnet.read(link.hash);
      this.go({ layer: place.layer, map: place.map, unit: 1 }, { quietly: Boolean(link.closest(".cover")) });
    }

    moveInCover(event) {
      const style = getComputedStyle(this.cover);
      const columns = style.gridTemplateColumns.split(" ").length;
      const next = zfnet.step(event, this.n, this.entries.length, columns);
      if (next === null) return;
      this.go({ map: this.entries[next].map, unit: 1 }, { quietly: true });
      this.cover.querySelectorAll("a")[next].focus({ preventScroll: true });
    }

    moveInNine(event) {
      const next = zfnet.step(event, this.place.unit - 1, this.entries[this.n].scores.length, 3);
      if (next === null) return;
      this.choose(next + 1);
      this.projections.querySelectorAll("[role=radio]")[next].focus();
    }

    /* Show what a search found in this network. */
    async search(query) {
      const { matches, layers } = await zfnet.find(this.network, query);
      const found = this.find(".found");
      const total = layers.reduce((sum, { hits }) => sum + hits.length, 0);
      found.hidden = false;
      found.querySelector("h2").textContent = total ? `“${query}”: ${total} maps` : `No picture here goes by “${query}”`;
      found.querySelector("p").textContent = total
        ? `${zfnet.explain(this.table, matches)} Maps by how many of their strongest units, up to nine, lie in such pictures.`
        : this.vocabulary();
      found.querySelector(".hits").replaceChildren(...layers.filter(({ hits }) => hits.length).map((layer) => this.hitsOf(layer)));
      return total;
    }

    vocabulary() {
      const { table } = this;
      const names = [...zfnet.allNames(table).keys()].slice(0, 12).join(", ");
      if (!names) return `These pictures have no labels and ${table.name} gives no answers, so there is no name to search for.`;
      const silent = table.photographs && !Object.keys(table.answers).length;
      return `Try one of: ${names}.${silent ? ` ${table.name} has no classifier here, so photographs go by their own names alone.` : ""}`;
    }

    hitsOf({ layer, total, hits }) {
      const links = hits.slice(0, MOST).map(({ n, map, count }) => {
        const href = zfnet.write([{ network: this.place.network, layer: layer.layer, map }]);
        const picture = zfnet.make("span", "picture");
        zfnet.picture(this.network, layer.cover.sheet).then((url) => zfnet.paintCover(picture, url, layer, total, n), zfnet.complain);
        return zfnet.make("li", "", {}, zfnet.make("a", "hit", { href, "aria-label": `${layer.layer}, map ${map}: ${count} units` }, picture, `${count}`));
      });
      const rest = hits.length > MOST ? `, the first ${MOST} of ${hits.length}` : "";
      return zfnet.make("div", "", {}, zfnet.make("h3", "", {}, `${layer.layer}${rest}`), zfnet.make("ul", "", {}, ...links));
    }

    close() {
      const found = this.find(".found");
      if (found.contains(document.activeElement)) document.getElementById("query").focus();
      found.hidden = true;
    }

    async copy() {
      const link = new URL(zfnet.write([this.place]), location.href).href;
      try {
        await navigator.clipboard.writeText(link);
        zfnet.say("The link to this map is copied.");
        this.find(".link").textContent = "Copied";
        setTimeout(() => { this.find(".link").textContent = "Copy link"; }, 1500);
      } catch {
        zfnet.complain(new Error(`Copying is not allowed here; the link is ${link}`));
      }
    }

    /* Say something about this pane's place, or nothing. */
    notice(text) {
      const line = this.find(".notice");
      line.hidden = !text;
      line.textContent = text;
    }
  };

  const centre = (element) => {
    const { left, width } = element.getBoundingClientRect();
    return left + width / 2;
  };

  const captioned = (element, words) =>
    zfnet.make("span", "item", { role: "presentation" }, element, zfnet.make("span", "caption", { "aria-hidden": "true", title: words }, words));

  /* Scroll a grid, and nothing around it, so that one of its items can be seen. */
  const reveal = (grid, link) => {
    const item = link.parentElement;
    const top = item.offsetTop - grid.offsetTop;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + item.offsetHeight > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + item.offsetHeight - grid.clientHeight;
  };
})();
