//! What the documents name must be there: the functions and tests in `docs/CACHING.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// A row of a table: the last two cells name functions and tests.
struct Row {
    line: usize,
    functions: Vec<String>,
    tests: Vec<String>,
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between backticks in `cell`.
fn code_in(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

fn rows(text: &str) -> Vec<Row> {
    let rows = text.lines().enumerate().filter_map(|(number, line)| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [_, _, functions, tests] = cells[..] else {
            panic!("line {}: {} cells", number + 1, cells.len());
        };
        let is_heading = tests.trim_end_matches(" |") == "test";
        (!is_heading).then(|| Row {
            line: number + 1,
            functions: code_in(functions),
            tests: code_in(tests),
        })
    });
    rows.collect()
}

/// The text of the file that `module` names, under `src/` or, for a suite, under `tests/`.
fn source_of(module: &[&str]) -> Option<String> {
    let path = module.join("/");
    let candidates = [
        format!("src/{path}.rs"),
        format!("src/{path}/mod.rs"),
        format!("tests/{path}.rs"),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let existing = candidates
        .iter()
        .map(|path| root.join(path))
        .find(|path: &PathBuf| path.is_file())?;
    Some(fs::read_to_string(existing).unwrap())
}

/// The lines before the function `name` and its own, if `source` has it.
fn function<'s>(source: &'s str, name: &str) -> Option<Vec<&'s str>> {
    let lines: Vec<&str> = source.lines().collect();
    let declared = format!("fn {name}");
    let at = lines.iter().position(|line| {
        let rest = line.split_once(&declared).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    })?;
    Some(lines[at.saturating_sub(4)..=at].to_vec())
}

/// Finds `path`, such as `cache::policy::vary::Selecting::of`; the error says what is missing.
fn find(path: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<&str> = path.split("::").collect();
    let name = names.pop().unwrap_or_default();
    let is_type = |name: &&str| name.starts_with(|first: char| first.is_ascii_uppercase());
    let of_type = names.last().copied().filter(is_type);
    if of_type.is_some() {
        names.pop();
    }
    let source = source_of(&names).ok_or_else(|| format!("no file for {path}"))?;
    let source = match of_type {
        // The methods of a type stand behind `impl`, and so may those of another.
        Some(of_type) => {
            let start = source
                .match_indices("impl")
                .find(|(at, _)| {
                    let head = source[*at..].lines().next().unwrap_or_default();
                    head.contains(of_type) && function(&source[*at..], name).is_some()
                })
                .map(|(at, _)| at)
                .ok_or_else(|| format!("no {of_type} with {name} for {path}"))?;
            source[start..].to_owned()
        }
        None => source,
    };
    let lines = function(&source, name).ok_or_else(|| format!("no function for {path}"))?;
    Ok(lines.into_iter().map(str::to_owned).collect())
}

#[test]
fn functions_and_tests_that_the_caching_rules_name_exist() {
    let mut wrong = Vec::new();
    let rows = rows(&read("docs/CACHING.md"));
    assert!(rows.len() > 50, "{} rows are not the tables", rows.len());
    for row in &rows {
        if row.functions.is_empty() || row.tests.is_empty() {
            wrong.push(format!("line {}: no function or no test", row.line));
        }
        for path in &row.functions {
            wrong.extend(
                find(path)
                    .err()
                    .map(|why| format!("line {}: {why}", row.line)),
            );
        }
        for path in &row.tests {
            match find(path) {
                Ok(lines) if lines.iter().any(|line| line.contains("test")) => {}
                Ok(_) => wrong.push(format!("line {}: {path} is no test", row.line)),
                Err(why) => wrong.push(format!("line {}: {why}", row.line)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_name_that_is_not_there_is_noticed() {
    assert!(find("cache::policy::vary::Selecting::of").is_ok());
    for path in [
        "cache::policy::vary::Selecting::nothing",
        "cache::policy::vary::Nothing::of",
        "cache::policy::vary::nothing",
        "cache::policy::nothing::of",
        "edge_rules::o",
    ] {
        assert!(find(path).is_err(), "{path}");
    }
}
