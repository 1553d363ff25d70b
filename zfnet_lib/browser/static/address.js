/* The permanent link: #network/layer/map/unit, and with two networks a second one after &.
 *
 * Everything after the network may be missing; the unit counts from 1.
 */
"use strict";

(() => {
  /* Return what a fragment names: one or two objects of network, layer, map, unit. */
  zfnet.read = (fragment) => {
    const names = fragment.replace(/^#/, "").split("&").filter(Boolean).slice(0, 2);
    return names.map((name) => {
      const [network, layer = "", map = "", unit = "1"] = name.split("/").map(decoded);
      return { network, layer, map: map === "" ? null : Number(map), unit: Number(unit) };
    });
  };

  /* Return the fragment of one or two places. */
  zfnet.write = (places) => "#" + places.map(({ network, layer, map, unit }) => {
    const parts = [network, layer, map, unit > 1 ? unit : null];
    return parts.filter((part) => (part ?? "") !== "").map(encodeURIComponent).join("/");
  }).join("&");

  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
})();
