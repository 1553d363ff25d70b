/* The page: one pane or two, the address that says what they show, search and keys. */
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const holder = byId("panes");
  const panes = [];
  let active = 0;
  let wanted = null; // the places that were asked for last, until they are shown

  zfnet.say = (text) => { byId("said").textContent = text; };

  /* Show what is wrong, in one sentence. */
  zfnet.complain = (error) => {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  };

  /* Return the place that exists nearest to the one asked for, with its tables, and a sentence where they differ. */
  const settle = async (asked) => {
    let notice = "";
    let network = zfnet.networks.find((each) => each.name === asked.network);
    if (!network) {
      if (asked.network) notice = zfnet.absence(asked.network);
      network = zfnet.networks[0];
    }
    const table = await zfnet.table(network, "network");
    let layer = table.layers.find((each) => each.layer === asked.layer);
    const wish = layer ? asked.map : null;
    if (!layer) {
      const names = table.layers.map((each) => each.layer).join(", ");
      if (asked.layer && !notice) notice = `${network.name} has no maps of ${asked.layer}; its layers with maps are ${names}.`;
      layer = table.layers.at(-1);
    }
    const { entries } = await zfnet.table(network, `maps-${layer.layer}`);
    const { map, said } = settled(wish, layer, entries);
    const found = entries.find((entry) => entry.map === map);
    const unit = found && map === asked.map && found.scores[asked.unit - 1] !== undefined ? asked.unit : 1;
    return { place: { network: network.name, layer: layer.layer, map, unit }, table, entries, notice: notice || said };
  };

  /* Return the map asked for, or the nearest one that is here; without a wish one with most units, and of these the
     one with the largest activation. */
  const settled = (wish, layer, entries) => {
    const maps = entries.map((entry) => entry.map);
    if (!maps.length) return { map: null, said: `No map of ${layer.layer} is active on any of the pictures.` };
    if (wish === null || wish === undefined) {
      const most = Math.max(...entries.map((entry) => entry.scores.length));
      const whole = entries.filter((entry) => entry.scores.length === most);
      const best = whole.reduce((one, other) => (other.scores[0] > one.scores[0] ? other : one));
      return { map: best.map, said: "" };
    }
    if (maps.includes(wish)) return { map: wish, said: "" };
    const nearest = maps.reduce((one, other) => (Math.abs(other - wish) < Math.abs(one - wish) ? other : one));
    const why = wish >= 0 && wish < layer.maps
      ? `Map ${wish} of ${layer.layer} is not in this atlas`
      : `${layer.layer} has maps 0 to ${layer.maps - 1}, and no map ${Number.isNaN(wish) ? "of that name" : wish}`;
    return { map: nearest, said: `${why}; this is map ${nearest}.` };
  };

  /* Show places, and tell whether they were shown: what is asked for last wins, whenever it comes. */
  const show = async (asked) => {
    const emptiness = zfnet.emptiness();
    if (emptiness) throw new Error(emptiness);
    const settledAll = await Promise.all(asked.map(settle));
    if (asked !== wanted) return false;
    byId("trouble").hidden = true;
    arrange(settledAll.length);
    settledAll.forEach(({ place, table, entries, notice }, i) => {
      panes[i].notice(notice);
      panes[i].show(place, table, entries);
    });
    announce(settledAll);
    return true;
  };

  const places = () => panes.map((pane) => pane.place);

  const arrange = (count) => {
    while (panes.length > count) panes.pop().root.remove();
    while (panes.length < count) {
      const pane = new zfnet.Pane((change, how) => go(panes.indexOf(pane), change, how));
      const use = () => { active = panes.indexOf(pane); };
      pane.root.addEventListener("focusin", use);
      pane.root.addEventListener("pointerdown", use);
      panes.push(pane);
      holder.append(pane.root);
    }
    active = Math.min(active, count - 1);
    holder.classList.toggle("two", count === 2);
    byId("aside").setAttribute("aria-pressed", String(count === 2));
    byId("together").hidden = count < 2;
  };

  const announce = (shown) => {
    const said = shown.map(({ place }) => `${place.network}, ${place.layer}${place.map === null ? "" : `, map ${place.map}, unit ${place.unit}`}`);
    const titles = shown.map(({ place }) => `${place.layer}${place.map === null ? "" : ` map ${place.map}`}`);
    document.title = `${titles.join(" | ")} · ${shown[0].place.network}`;
    zfnet.say(said.join("; "));
    const { table } = shown[0];
    byId("contrast").textContent = `Colours: ${table.contrast}.`;
    byId("labels").replaceChildren(...[...zfnet.allNames(table)].map(([name, kind]) => zfnet.make("option", "", { value: name, label: `${name} (${kind})` })));
  };

  /* Go to another place in one pane; with "same layer in both" the other one follows to that layer. */
  const go = (index, change, how = {}) => {
    const asked = (wanted ?? places()).map((place, i) => (i === index ? { ...place, ...change } : place));
    const along = byId("together").querySelector("input").checked;
    if (along && change.layer) asked.forEach((place, i) => { if (i !== index && place.layer !== change.layer) asked[i] = { ...place, layer: change.layer, map: null, unit: 1 }; });
    return visit(asked, how);
  };

  /* Show places, then let the address say so; steps from map to map leave no trail behind for the Back button.
     Promise the error where they could not be shown. */
  const visit = async (asked, { quietly = false } = {}) => {
    wanted = asked;
    try {
      if (!(await show(asked))) return null;
      const address = zfnet.write(places());
      if (address !== location.hash) history[quietly ? "replaceState" : "pushState"](null, "", address);
    } catch (error) {
      if (asked !== wanted) return null;
      for (const pane of panes) pane.select.value = pane.place.network;
      zfnet.complain(error);
      return error;
    } finally {
      if (asked === wanted) wanted = null;
    }
    return null;
  };

  /* Show what the address names; on an empty page where that is damaged, the first network that is whole. */
  const fromAddress = async () => {
    const asked = zfnet.read(location.hash);
    const error = await visit(asked.length ? asked : [{}], { quietly: true });
    if (!error) return;
    for (const { name } of zfnet.networks) if (!panes.length) await visit([{ network: name }], { quietly: true });
    zfnet.complain(error);
  };

  /* Put a second pane beside the first, with the next network where there is one, or take it away. */
  const beside = () => {
    const [first] = places();
    if (!first) return;
    const at = zfnet.networks.findIndex((network) => network.name === first.network);
    const other = zfnet.networks[(at + 1) % zfnet.networks.length].name;
    visit(panes.length === 2 ? [panes[active].place] : [first, { network: other, layer: first.layer, map: null, unit: 1 }]);
  };

  const search = async (query) => {
    try {
      const totals = await Promise.all(panes.map((pane) => pane.search(query)));
      zfnet.say(`“${query}”: ${totals.join(" and ")} maps`);
      panes[0].find(".found h2").focus();
    } catch (error) {
      zfnet.complain(error);
    }
  };

  const ACTS = {
    ArrowLeft: () => panes[active].step(-1),
    ArrowRight: () => panes[active].step(1),
    u: () => panes[active].climb(1),
    d: () => panes[active].climb(-1),
    s: () => beside(),
    "/": () => byId("query").focus(),
    "?": () => byId("about").showModal(),
    Escape: () => panes.forEach((pane) => pane.close()),
  };
  for (let unit = 1; unit <= 9; unit += 1) ACTS[unit] = () => panes[active].choose(unit);

  const press = (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), select, dialog");
    const act = ACTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (typing || !act || !panes.length || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key.length === 1 && !byId("keys").checked) return;
    event.preventDefault();
    act();
  };

  document.addEventListener("keydown", press);
  window.addEventListener("hashchange", fromAddress);
  byId("aside").addEventListener("click", beside);
  byId("help").addEventListener("click", () => byId("about").showModal());
  document.querySelector(".search").addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("query").value.trim()) search(byId("query").value.trim());
  });
  fromAddress();
})();
