/* The atlases: which there are, and their tables and pictures, loaded when they are first asked for.
 *
 * Every table is a script that calls zfnet.take() with the key of its atlas, a hash of weights and pictures. A table
 * whose key is not the one that the page was written with belongs to an atlas of other weights, and is not shown.
 */
"use strict";

const zfnet = { networks: [], missing: {}, trouble: "" };

(() => {
  const FORMAT = 3;
  const tables = new Map();
  const coming = new Map();
  let repair = "";

  /* Called by networks.js. */
  zfnet.begin = (known) => {
    repair = known.repair;
    zfnet.networks = known.networks;
    zfnet.missing = known.missing;
    if (known.format !== FORMAT) zfnet.trouble = `These atlases have format ${known.format}, this page reads ${FORMAT}.${mend()}`;
  };

  /* Called by every table. */
  zfnet.take = (key, table, values) => tables.set(`${key}/${table}`, values);

  const mend = () => (repair ? ` Write them again: ${repair}` : "");
  const encoded = (path) => path.split("/").map(encodeURIComponent).join("/"); // names of layers may hold anything
  const address = (network, file) => `${encoded(network.place)}/${encoded(file)}?${network.key}`;

  /* What could not be loaded is asked for anew the next time. */
  const once = (name, make) => {
    if (!coming.has(name)) {
      coming.set(name, make());
      coming.get(name).catch(() => coming.delete(name));
    }
    return coming.get(name);
  };

  /* Promise the table of a network ("network") or of one of its layers ("maps-conv3"). */
  zfnet.table = (network, table) =>
    once(address(network, `${table}.js`), () => new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address(network, `${table}.js`);
      script.onload = () => {
        const values = tables.get(`${network.key}/${table}`);
        if (values) resolve(values);
        else reject(new Error(`${network.place}/${table}.js is damaged, or of other weights than this page.${mend()}`));
      };
      script.onerror = () => reject(new Error(`${network.place}/${table}.js is missing.${mend()}`));
      document.head.append(script);
    }));

  /* Promise that a picture file of a network is there, and return its address. */
  zfnet.picture = (network, file) =>
    once(address(network, file), () => new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image.src);
      image.onerror = () => reject(new Error(`${network.place}/${file} is missing or damaged.${mend()}`));
      image.src = address(network, file);
    }));

  /* Say in one sentence what is wrong where there is nothing to show at all. */
  zfnet.emptiness = () => {
    if (zfnet.trouble) return zfnet.trouble;
    if (zfnet.networks.length) return "";
    const why = Object.values(zfnet.missing).join(" ");
    return why || "There is no atlas here: networks.js is missing or damaged. Write it with: zfnet atlas NETWORK --out FOLDER";
  };

  /* Say why a network that somebody asks for is not here. */
  zfnet.absence = (name) => {
    const here = zfnet.networks.map((network) => network.name).join(", ");
    return zfnet.missing[name] || `There is no atlas of ${name} here; here are ${here}. Write one with: zfnet atlas ${name}`;
  };
})();
