// The list of emojis in the shape that the UI kit's picker reads.

import names from "unicode-emoji-json/data-by-emoji.json" with { type: "json" };

/** The emojis, and a text to search: `name:index` of each, with commas between. */
export function emojis() {
  const emojis = Object.keys(names);
  const search = emojis
    // A comma or colon in a name would end it: "flag: Chad", "family: man, boy".
    .map((emoji, index) => `${names[emoji].name.toLowerCase().replace(/[:,]/g, "")}:${index}`)
    .join(",");
  return { emojis, search };
}
