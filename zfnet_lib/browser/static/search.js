/* Search by label: which maps have their strongest units in pictures of a name. */
"use strict";

(() => {
  /* Return the names that a picture goes by: its labels, and what the network takes it for. */
  zfnet.namesOf = (table, image) => {
    const seen = table.seen[image];
    const answer = table.answers[image];
    return {
      labels: seen.labels.map((label) => table.classes[label]),
      answer: answer ? { name: answer[0], sure: answer[1] } : null,
    };
  };

  /* Return all names that can be searched for: by name, what kind of name it is. */
  zfnet.allNames = (table) => {
    const kinds = new Map();
    for (const image of Object.keys(table.seen)) {
      const { labels, answer } = zfnet.namesOf(table, image);
      if (answer) kinds.set(answer.name, `first answer of ${table.name}, not a label`);
      for (const label of labels) kinds.set(label, table.photographs ? "photograph" : "label");
    }
    return kinds;
  };

  /* Promise what a network has for a query: the names that match, and by layer the maps with such pictures, most first. */
  zfnet.find = async (network, query) => {
    const table = await zfnet.table(network, "network");
    const wanted = query.trim().toLowerCase();
    const matches = new Map();
    const fits = new Set();
    for (const image of Object.keys(table.seen)) {
      const { labels, answer } = zfnet.namesOf(table, image);
      const kinds = [...labels.map((name) => [name, "label"]), ...(answer ? [[answer.name, "answer"]] : [])];
      for (const [name, kind] of kinds.filter(([name]) => name.toLowerCase().includes(wanted))) {
        matches.set(`${kind} ${name}`, { name, kind });
        fits.add(Number(image));
      }
    }
    const layers = [];
    for (const layer of [...table.layers].reverse()) {
      const { entries } = await zfnet.table(network, `maps-${layer.layer}`);
      const hits = entries.map((entry, n) => ({ n, map: entry.map, count: entry.images.filter((i) => fits.has(i)).length }));
      layers.push({ layer, total: entries.length, hits: hits.filter((hit) => hit.count).sort((a, b) => b.count - a.count || a.n - b.n) });
    }
    return { matches: [...matches.values()], layers };
  };

  /* Say in words which names matched, and what kind of names they are. */
  zfnet.explain = (table, matches) => {
    const named = (kind) => matches.filter((match) => match.kind === kind).map((match) => `“${match.name}”`).join(", ");
    const said = [];
    if (named("label")) said.push(`${table.photographs ? "Photograph" : "Label"}: ${named("label")}.`);
    if (named("answer")) said.push(`What ${table.name} takes the picture for, its first answer, not a label: ${named("answer")}.`);
    return said.join(" ");
  };
})();
