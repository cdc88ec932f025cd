// The list of emojis in the format that the UI kit's picker expects.

import names from "unicode-emoji-json/data-by-emoji.json" with { type: "json" };

/** The emojis, and a search string of comma-separated `name:index` entries. */
export function emojis() {
  const emojis = Object.keys(names);
  const search = emojis
    // Commas and colons are separators, so they are removed from names: "flag: Chad", "family: man, boy".
    .map((emoji, index) => `${names[emoji].name.toLowerCase().replace(/[:,]/g, "")}:${index}`)
    .join(",");
  return { emojis, search };
}
