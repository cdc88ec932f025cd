//! The source tree itself: which folder may import which, and what comments cite.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose folders import each other in one direction. `parlor-live` is not among them: it is
/// one state machine, whose parts are in files of their own.
const LAYERED: [&str; 5] = ["protocol", "server", "sfu", "store", "testkit"];

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().unwrap()
}

/// Every file of an extension below a folder.
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

/// The paths of a tree of imports: `a::{b, c::{d, self}}` is `a::b`, `a::c::d` and `a::c`.
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

/// The text without comments and without its tests.
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

/// What a file imports from its own crate, as paths from the root of the crate. `module` is its own.
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
        // Paths in full, outside of imports.
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

/// Folder → the folders that it imports. A file beside its folder belongs to it; other files at the
/// root of a crate stand for themselves.
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
    // What the root of the crate has from its modules: `crate::Error` is of `error`.
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

/// A way from a folder back to itself.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        graph: &BTreeMap<String, BTreeSet<String>>,
        folder: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|passed| passed == folder) {
            return Some(way[at..].to_vec());
        }
        if !done.insert(folder.to_owned()) {
            return None;
        }
        way.push(folder.to_owned());
        let found = graph[folder]
            .iter()
            .find_map(|next| visit(graph, next, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|folder| visit(graph, folder, &mut Vec::new(), &mut done))
}

#[test]
fn folders_do_not_import_each_other_in_a_circle() {
    for name in LAYERED {
        let graph = imports_between_folders(&workspace().join("crates").join(name).join("src"));
        let imports: usize = graph.values().map(BTreeSet::len).sum();
        assert!(imports > 0, "no import was found in {name}");
        let circle = cycle(&graph);
        assert_eq!(circle, None, "in crates/{name}/src");
    }
}

#[test]
fn a_circle_is_found() {
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

/// The numbers of the headings of a page: `### 1.4 First offers` has 1.4.
fn headings(page: &str) -> BTreeSet<String> {
    // Every second part is between fences.
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

/// What a text cites of the specification: `docs/spec/media.md 1.4 and 2` are two sections of a page.
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
                // Neither a number nor a word: it must not pass as what it begins with.
                sections.push((*next).to_owned());
            } else if !number.is_empty() {
                sections.push(number);
            } else if !["and", "to"].contains(next) {
                break;
            }
            // The end of a sentence or of a parenthesis.
            if next.ends_with(['.', ')', ';', '"']) || next.contains(')') {
                break;
            }
        }
        found.push((page.to_owned(), sections));
    }
    found
}

#[test]
fn what_comments_cite_exists() {
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
        // This file has citations that are none.
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
