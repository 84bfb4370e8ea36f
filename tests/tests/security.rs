//! SECURITY.md says which test holds each promise: they are all there.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is a failed test"
)]

use std::fs;

use nethost_tests::places::root;

/// Returns what stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_word(text: &str) -> bool {
    let is_part = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    !text.is_empty() && text.chars().all(is_part)
}

fn has_test(path: &str, function: &str) -> bool {
    let text = fs::read_to_string(root().join(path)).unwrap_or_default();
    let is_it = |part: &str| part.trim_start().starts_with(&format!("fn {function}("));
    // With whatever attributes beside it.
    text.split("#[test]").skip(1).any(|part| {
        let code = part.lines().map(str::trim_start);
        code.filter(|line| !line.starts_with("#["))
            .find(|line| !line.is_empty())
            .is_some_and(is_it)
    })
}

#[test]
fn every_promise_has_its_test() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let mut missing = Vec::new();
    let mut count = 0;
    for name in quoted(&text) {
        let Some((file, function)) = name.split_once("::") else {
            continue;
        };
        count += 1;
        if !is_word(function) || !has_test(&format!("tests/tests/{file}.rs"), function) {
            missing.push(name);
        }
    }
    // Tests of the host's own: `function` of `file`.
    for part in text.split("` of `host/").skip(1) {
        let file = part.split('`').next().unwrap();
        let before = text.split(part).next().unwrap();
        let function = before.trim_end_matches("` of `host/").rsplit('`').next();
        count += 1;
        if !has_test(&format!("host/{file}"), function.unwrap()) {
            missing.push(function.unwrap());
        }
    }
    assert!(count > 40, "{count} tests are named");
    assert!(missing.is_empty(), "not there: {missing:#?}");
}
