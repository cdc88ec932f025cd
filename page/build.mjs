// Bundles the page into dist/: compressed files named by a hash of their content, and meet.html, which references
// them. `scripts/build-page` runs this; the next build of the binary embeds dist/.

import { readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

process.chdir(import.meta.dirname);
const { outputFiles, metafile } = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ["src/meet.js", "src/meet.css"],
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  write: false,
  metafile: true,
  // The licences of the bundled packages require their text to be distributed.
  legalComments: "linked",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".woff2": "file" },
  // All browsers with WebRTC support woff2.
  external: ["*.woff"],
  logLevel: "warning",
});

const names = Object.entries(metafile.outputs)
  .filter(([, { entryPoint }]) => entryPoint)
  .map(([path, { entryPoint }]) => [basename(entryPoint), basename(path)]);
let page = await readFile("src/meet.html", "utf8");
for (const [source, name] of names) page = page.replace(`{${source}}`, name);
if (page.includes("{")) throw new Error("src/meet.html references a file that is not an entry point");

for (const name of await readdir("dist")) {
  if (name !== ".gitkeep") await rm(`dist/${name}`, { recursive: true });
}
let size = 0;
for (const { path, contents } of outputFiles) {
  const packed = gzipSync(contents, { level: 9 });
  size += packed.length;
  await writeFile(`dist/${basename(path)}.gz`, packed);
}
await writeFile("dist/meet.html", page);
console.log(`page/dist: ${outputFiles.length + 1} files, ${Math.ceil(size / 1024)} KiB compressed`);
