//! Checks of the source tree: the direction of imports, the citations in comments, and retired names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose directories must import each other in one direction. `parlor-live` is not one of
/// them: it is a single state machine that is split over several files.
const LAYERED: [&str; 5] = ["protocol", "server", "sfu", "store", "testkit"];

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().unwrap()
}

/// Lists all files below a directory that have the given extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Expands a use tree to paths: `a::{b, c::{d, self}}` becomes `a::b`, `a::c::d` and `a::c`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let leaf = tree.split(" as ").next().unwrap_or_default().trim();
        if leaf == "self" {
            found.push(prefix.trim_end_matches("::").to_owned());
        } else if !leaf.is_empty() {
            found.push(format!("{prefix}{leaf}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let inside = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inside.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inside[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inside[start..], found);
}

/// Returns the text without comments and without the module `tests`.
fn code(text: &str) -> String {
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the paths that a file imports from its own crate, relative to the crate's root. `module` is the
/// path of the file's own module.
fn imports(module: &[String], text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for statement in code(text).split(';') {
        let import = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].trim_end();
            before.is_empty() || before.ends_with(['}', ']', ')', '{', 'b'])
        });
        if let Some(at) = import {
            expand("", &statement[at + 4..].replace('\n', " "), &mut paths);
        }
        // Qualified paths outside `use` declarations.
        for start in ["crate::", "super::"] {
            for (at, _) in statement.match_indices(start) {
                let is_path = |is: char| is.is_alphanumeric() || is == '_' || is == ':';
                let path: String = statement[at..]
                    .chars()
                    .take_while(|is| is_path(*is))
                    .collect();
                paths.push(path.trim_end_matches(':').to_owned());
            }
        }
    }
    let from_root = |path: String| {
        let mut parts = path.split("::").map(|part| part.trim().to_owned());
        let mut base = match parts.next()?.as_str() {
            "crate" => Vec::new(),
            "super" => module[..module.len().saturating_sub(1)].to_vec(),
            _ => return None,
        };
        for part in parts {
            if part == "super" {
                base.pop();
            } else {
                base.push(part);
            }
        }
        Some(base)
    };
    paths.into_iter().filter_map(from_root).collect()
}

/// Maps each directory to the directories that it imports. `rooms.rs` belongs to the directory `rooms`. A
/// file in the crate's root that has no directory counts as a directory of its own.
fn imports_between_folders(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let modules: Vec<(Vec<String>, String)> = files(source, "rs")
        .into_iter()
        .filter_map(|path| {
            let module = path.strip_prefix(source).unwrap().with_extension("");
            let module: Vec<String> = module
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            let is_test = module.iter().any(|part| part == "tests");
            let is_root = module == ["lib"] || module == ["main"];
            let is_counted = !is_test && !is_root;
            is_counted.then(|| (module, fs::read_to_string(&path).unwrap()))
        })
        .collect();
    let folders: BTreeSet<String> = modules
        .iter()
        .map(|(module, _)| module[0].clone())
        .collect();
    // Names that lib.rs reexports: `crate::Error` is defined in `error`.
    let root = fs::read_to_string(source.join("lib.rs")).unwrap();
    let mut shown = Vec::new();
    for statement in code(&root).split(';') {
        if let Some((_, tree)) = statement.split_once("use ") {
            expand("", &tree.replace('\n', " "), &mut shown);
        }
    }
    let of_root: BTreeMap<&str, &str> = shown
        .iter()
        .filter_map(|path| Some((path.rsplit("::").next()?, path.split("::").next()?)))
        .collect();
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for (module, text) in &modules {
        let from = graph.entry(module[0].clone()).or_default();
        for path in imports(module, text) {
            let Some(name) = path.first().map(String::as_str) else {
                continue;
            };
            let to = if folders.contains(name) {
                Some(&name)
            } else {
                of_root.get(name)
            };
            let to = to.filter(|to| folders.contains(**to) && **to != module[0]);
            from.extend(to.map(|to| (*to).to_owned()));
        }
    }
    graph
}

/// Finds a cycle, as the list of directories on it.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        graph: &BTreeMap<String, BTreeSet<String>>,
        folder: &str,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = path.iter().position(|visited| visited == folder) {
            return Some(path[at..].to_vec());
        }
        if !done.insert(folder.to_owned()) {
            return None;
        }
        path.push(folder.to_owned());
        let found = graph[folder]
            .iter()
            .find_map(|next| visit(graph, next, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|folder| visit(graph, folder, &mut Vec::new(), &mut done))
}

#[test]
fn directories_do_not_import_each_other_in_a_cycle() {
    for name in LAYERED {
        let graph = imports_between_folders(&workspace().join("crates").join(name).join("src"));
        let imports: usize = graph.values().map(BTreeSet::len).sum();
        assert!(imports > 0, "no import was found in {name}");
        assert_eq!(cycle(&graph), None, "in crates/{name}/src");
    }
}

#[test]
fn a_cycle_is_found() {
    let folders = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let graph: BTreeMap<String, BTreeSet<String>> = [
        ("a".to_owned(), folders(&["b"])),
        ("b".to_owned(), folders(&["c"])),
        ("c".to_owned(), folders(&["b"])),
    ]
    .into();
    assert_eq!(cycle(&graph), Some(vec!["b".to_owned(), "c".to_owned()]));
    let module = ["rest", "meetings"].map(str::to_owned);
    let text = "//! crate::no::comment\npub use crate::{\n    http::{self, Call},\n    state::S as T,\n};\nfn f() { super::apps::g(); }\n#[cfg(test)]\nmod tests { use crate::tests_do_not_count; }";
    let found: BTreeSet<String> = imports(&module, text)
        .into_iter()
        .map(|path| path.join("::"))
        .collect();
    let all = ["http", "http::Call", "state::S", "rest::apps::g"];
    assert!(all.iter().all(|path| found.contains(*path)), "{found:?}");
    assert!(found.iter().all(|path| !path.contains("no")), "{found:?}");
}

/// Returns the section numbers of a page: the heading `### 1.4 First offers` has the number 1.4.
fn headings(page: &str) -> BTreeSet<String> {
    // Every other part is a fenced code block.
    let text = page.split("```").step_by(2);
    let titles = text
        .flat_map(str::lines)
        .filter(|line| line.starts_with('#'));
    let numbers = titles.filter_map(|line| {
        let number = line.trim_start_matches('#').split_whitespace().next()?;
        Some(number.trim_end_matches('.').to_owned())
    });
    let is_number = |text: &String| text.chars().all(|is| is.is_ascii_digit() || is == '.');
    numbers.filter(is_number).collect()
}

/// Returns the citations of the specification in a text, as pages with their section numbers:
/// `docs/spec/media.md 1.4 and 2` cites two sections of one page.
fn citations(text: &str) -> Vec<(String, Vec<String>)> {
    let flat: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !["//", "///", "//!", "*"].contains(word))
        .collect();
    let mut found = Vec::new();
    for (at, word) in flat.iter().enumerate() {
        let Some((_, page)) = word.split_once("docs/spec/") else {
            continue;
        };
        let Some((page, _)) = page.split_once(".md") else {
            continue;
        };
        let mut sections = Vec::new();
        for next in &flat[at + 1..] {
            let number: String = next
                .chars()
                .take_while(|is| is.is_ascii_digit() || *is == '.')
                .collect();
            let rest = next[number.len()..].trim_end_matches([',', ';', ')', '.', '"']);
            let number = number.trim_end_matches('.').to_owned();
            if !number.is_empty() && !rest.is_empty() {
                // Something like `1.4x` is a mistake, not a citation of section 1.4.
                sections.push((*next).to_owned());
            } else if !number.is_empty() {
                sections.push(number);
            } else if !["and", "to"].contains(next) {
                break;
            }
            // A citation ends with its sentence or its parenthesis.
            if next.ends_with(['.', ')', ';', '"']) || next.contains(')') {
                break;
            }
        }
        found.push((page.to_owned(), sections));
    }
    found
}

#[test]
fn cited_sections_exist() {
    let root = workspace();
    let pages: BTreeMap<String, BTreeSet<String>> = files(&root.join("docs/spec"), "md")
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, headings(&fs::read_to_string(path).unwrap()))
        })
        .collect();
    let (mut count, mut dead) = (0, Vec::new());
    let mut texts = files(&root.join("crates"), "rs");
    texts.extend(files(&root.join("docs/adr"), "md"));
    texts.extend(files(&root.join("proto"), "proto"));
    texts.extend(files(&root.join("fuzz/fuzz_targets"), "rs"));
    for path in texts {
        // The citations in this file are test data.
        if path.ends_with("it/source.rs") {
            continue;
        }
        for (page, sections) in citations(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            let known = pages.get(&page);
            let is_there = |section| known.is_some_and(|known| known.contains(section));
            if sections.is_empty() || !sections.iter().all(is_there) {
                dead.push(format!("{}: {page} {sections:?}", path.display()));
            }
        }
    }
    assert!(count > 50, "{count} citations were found");
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn a_dead_citation_is_found() {
    let cited = citations(
        "(docs/spec/media.md 1.4, 2 and\n/// 3.1), `docs/spec/rest.md` docs/spec/a.md 9.",
    );
    let sections = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        cited,
        [
            ("media".to_owned(), sections(&["1.4", "2", "3.1"])),
            ("rest".to_owned(), sections(&[])),
            ("a".to_owned(), sections(&["9"])),
        ]
    );
    assert_eq!(
        headings("# Page\n## 2. Two\n### 2.1 One\ntext"),
        ["2", "2.1"].map(str::to_owned).into()
    );
}

/// Type and module names that were replaced because they were metaphors (docs/glossary.md has the terms
/// that are used instead).
const RETIRED: [&str; 22] = [
    "Parlor",
    "Hall",
    "Door",
    "Yard",
    "Gate",
    "Turn",
    "At",
    "Asked",
    "Own",
    "Place",
    "Elsewhere",
    "Talk",
    "Telling",
    "Passage",
    "Letter",
    "Seat",
    "Standing",
    "Gone",
    "Minter",
    "ways",
    "sight",
    "bring",
];

/// Returns the retired names that a source file defines.
fn retired_definitions(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text
        .split(|is: char| !is.is_alphanumeric() && is != '_')
        .collect();
    words
        .windows(2)
        .filter(|pair| ["struct", "enum", "trait", "type", "mod"].contains(&pair[0]))
        .map(|pair| pair[1])
        .filter(|name| RETIRED.contains(name))
        .collect()
}

#[test]
fn retired_names_do_not_return() {
    let root = workspace();
    let mut sources = files(&root.join("crates"), "rs");
    sources.extend(files(&root.join("fuzz/fuzz_targets"), "rs"));
    let found: Vec<String> = sources
        .iter()
        .filter(|path| !path.ends_with("it/source.rs"))
        .filter_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let names = retired_definitions(&text);
            (!names.is_empty()).then(|| format!("{}: {names:?}", path.display()))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_retired_name_is_found() {
    let text = "pub(crate) struct\nHall<'a>(&'a str); mod\nways { enum Halls {} } type Attic = At;";
    assert_eq!(retired_definitions(text), ["Hall", "ways"]);
}
