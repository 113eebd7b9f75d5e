//! Owns the check that no panic gets out of what nginx calls: each `extern "C" fn` of the module calls
//! the guard of `src/ffi/boundary.rs`, itself or through a function that does.

use std::path::Path;
use std::{fs, io};

/// What has a guard inside, around all that its caller passes.
const GUARDED: [&str; 7] =
    ["guard_connection", "hook", "guarded", "check", "on_event", "on_client_event", "run"];

/// The text of each file of the module.
fn sources() -> io::Result<Vec<String>> {
    sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"))
}

fn sources_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();

    for entry in fs::read_dir(folder)? {
        let path = entry?.path();

        if path.is_dir() {
            found.extend(sources_in(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path)?);
        }
    }

    Ok(found)
}

/// The functions that begin with `start`, each with its body: name first. The last line of a function is
/// a brace as far to the left as its first.
fn functions<'a>(source: &'a str, start: &str) -> Vec<&'a str> {
    let mut found = Vec::new();

    for (place, _) in source.match_indices(start) {
        let function = &source[place + start.len()..];
        let line = source[..place].rfind('\n').map_or(0, |end| end + 1);
        let indent: String = source[line..].chars().take_while(|letter| *letter == ' ').collect();

        // A type or a field has no name, or no body.
        if function.starts_with(|letter: char| letter.is_alphabetic()) {
            let end = function.find(&format!("\n{indent}}}\n")).unwrap_or(function.len());
            found.push(&function[..end]);
        }
    }

    found
}

fn name(function: &str) -> &str {
    function.split(['(', '<']).next().unwrap_or_default()
}

fn calls(function: &str, callee: &str) -> bool {
    function.match_indices(&format!("{callee}(")).any(|(place, _)| {
        !function[..place].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
    })
}

fn is_guarded(function: &str) -> bool {
    let body = function.split_once('{').map_or("", |(_, body)| body);
    calls(body, "guard") || GUARDED.iter().any(|guarded| calls(body, guarded))
}

#[test]
fn every_callback_is_guarded() -> io::Result<()> {
    let sources = sources()?;
    let callbacks: Vec<_> =
        sources.iter().flat_map(|source| functions(source, "extern \"C\" fn ")).collect();

    assert!(callbacks.len() > 20, "only {} were found", callbacks.len());

    for callback in callbacks {
        assert!(is_guarded(callback), "{} calls no guard", name(callback));
    }

    Ok(())
}

#[test]
fn what_counts_as_a_guard_has_one() -> io::Result<()> {
    let sources = sources()?;

    for guarded in GUARDED {
        let found = sources
            .iter()
            .flat_map(|source| functions(source, "fn "))
            .any(|function| name(function) == guarded && is_guarded(function));

        assert!(found, "{guarded} calls no guard");
    }

    Ok(())
}
