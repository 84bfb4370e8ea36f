//! What a command sees and draws on a terminal.

use nethost_tests::pty::{self, Step};
use rustix::process::Signal;

use super::Exec;

#[test]
fn without_a_terminal_there_are_no_colours_unless_they_are_wanted() {
    for (options, environment, expected) in [
        (&[] as &[&str], &[] as &[(&str, &str)], "false false"),
        (&["--color", "always"], &[], "true true"),
        (
            &["--color", "never"],
            &[("CLICOLOR_FORCE", "1")],
            "false false",
        ),
        (&[], &[("CLICOLOR_FORCE", "1")], "true true"),
        (&[], &[("CLICOLOR_FORCE", "0")], "false false"),
        (
            &[],
            &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")],
            "false false",
        ),
        (&["--color", "always"], &[("NO_COLOR", "1")], "true true"),
    ] {
        let exec = Exec::script_with(options, &["terminal"]).environment(environment);
        let output = exec.run().output;
        let expected = format!("terminal [false, false, false] size None colour {expected}\n");
        assert_eq!(output, expected, "{options:?} {environment:?}");
    }
}

#[test]
fn on_a_terminal_its_size_is_known_and_colours_are_wanted() {
    for (environment, colour) in [
        (&[] as &[(&str, &str)], "true"),
        (&[("NO_COLOR", "1")], "false"),
        (&[("NO_COLOR", "")], "true"),
        (&[("TERM", "dumb")], "false"),
    ] {
        let shown = on_terminal(&["terminal", "exit 3"], &[], environment, &[]);
        let expected =
            format!("terminal [true, true, true] size Some((93, 31)) colour {colour} {colour}\n");
        assert_eq!(shown, format!("{expected}exit 3"));
    }
}

#[test]
fn a_change_of_the_terminals_size_is_told() {
    let shown = on_terminal(
        &["signals 1"],
        &[],
        &[],
        &[Step::resizing("ready", 120, 40)],
    );
    assert_eq!(shown, "ready\nresized Some((120, 40))\nexit 0");
}

#[test]
fn the_terminals_interrupt_is_a_signal() {
    let shown = on_terminal(
        &["signals 1", "exit 4"],
        &[],
        &[],
        &[Step::typing("ready", "\x03")],
    );
    assert!(shown.contains("interrupt\nexit 4"), "{shown}");
}

#[test]
fn progress_is_drawn_on_a_terminal_and_nowhere_else() {
    let shown = on_terminal(&["progress finish", "say done"], &[], &[], &[]);
    for part in ["half", "50%", "512.00 KiB/1.00 MiB", "done"] {
        assert!(shown.contains(part), "no {part} in {shown:?}");
    }
    assert!(!shown.contains("way"), "{shown:?}");
    // One that is finished stays above what is written later.
    assert!(shown.rfind("half") < shown.rfind("done"), "{shown:?}");
    assert!(shown.ends_with("done\nexit 0"), "{shown:?}");
    for (options, environment) in [
        (&["--quiet"] as &[&str], &[] as &[(&str, &str)]),
        (&[], &[("TERM", "dumb")]),
    ] {
        let shown = on_terminal(&["progress finish", "say done"], options, environment, &[]);
        assert_eq!(shown, "done\nexit 0");
    }
    let ended = Exec::script(&["progress", "progress finish", "say done"]).run();
    assert_eq!(
        (ended.output.as_str(), ended.error.as_str()),
        ("done\n", "")
    );
}

#[test]
fn progress_erases_nothing_that_was_written() {
    let shown = on_terminal(&["print name: ", "progress"], &[], &[], &[]);
    assert_eq!(shown, "name: exit 0");
    let shown = on_terminal(&["print name: ", "progress finish", "say x"], &[], &[], &[]);
    // A `\r` of the terminal is a space here.
    assert!(shown.starts_with("name:  \nhalf  50% "), "{shown:?}");
    assert!(shown.ends_with("\nx\nexit 0"), "{shown:?}");
    let shown = on_terminal(&["bar", "say one", "progress", "say two"], &[], &[], &[]);
    assert!(shown.contains("here"), "{shown:?}");
    assert_eq!(
        (shown.matches("one").count(), shown.matches("two").count()),
        (1, 1)
    );
}

#[test]
fn a_terminal_that_goes_away_or_takes_nothing_is_survived() {
    let shown = on_terminal(
        &["bar", "progress", "say x"],
        &[],
        &[],
        &[Step::closing("half")],
    );
    assert!(shown.ends_with("exit 1"), "{shown:?}");
    let shown = on_terminal(
        &["bar", "say ready", "stream 10000000"],
        &[],
        &[],
        &[Step::signalling("ready", Signal::TERM)],
    );
    assert!(shown.ends_with("exit 143"), "{shown:?}");
}

/// Runs a script on a terminal of 93 columns and 31 rows, and returns what it shows, and `exit CODE`.
fn on_terminal(
    steps: &[&str],
    options: &[&str],
    environment: &[(&str, &str)],
    done: &[Step<'_>],
) -> String {
    let mut exec = Exec::script_with(options, steps);
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "RUST_LOG"] {
        exec.command.env_remove(name);
    }
    let variables = environment.iter().copied();
    exec.command.env("TERM", "xterm").envs(variables);
    let shown = pty::on_terminal(&exec.command, (93, 31), done).unwrap();
    let text = shown.text.replace("\r\n", "\n").replace('\r', " ");
    format!("{text}exit {}", shown.code)
}
