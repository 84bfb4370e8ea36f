//! Groups.

use nethost_tests::scripted::{Scripted, pattern};

#[test]
fn a_group_reaches_its_members_but_one_that_is_skipped() {
    let mut plugin = Scripted::start();
    let (mut ann, a) = plugin.connect();
    let (mut bob, b) = plugin.connect();
    let (mut eve, e) = plugin.connect();
    plugin.run(&format!("@{a} join room; @{b} join room; @{a} join room"));
    plugin.run(&format!(
        "say room all; @{a} say-others room others; say room end"
    ));
    ann.expect("all\nend\n");
    bob.expect("all\nothers\nend\n");
    // A skipped connection need not be a member.
    plugin.run(&format!("@{e} say-others room from outside"));
    ann.expect("from outside\n");
    bob.expect("from outside\n");
    plugin.run(&format!(
        "@{b} leave room; @{b} leave room; say room without bob; @{b} write alone; @{e} write alone"
    ));
    ann.expect("without bob\n");
    bob.expect("alone\n");
    eve.expect("alone\n");
}

#[test]
fn order_is_kept_between_a_group_and_its_members() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    let (mut other, second) = plugin.connect();
    plugin.run(&format!(
        "@{id} join one; @{id} join two; @{second} join one"
    ));
    let mut expected = String::new();
    for round in 0..50 {
        plugin.run(&format!(
            "@{id} write a{round}; say one b{round}; @{id} write c{round}; say two d{round}; say one e{round}"
        ));
        expected += &format!("a{round}\nb{round}\nc{round}\nd{round}\ne{round}\n");
    }
    client.expect(&expected);
    let expected: String = (0..50)
        .map(|round| format!("b{round}\ne{round}\n"))
        .collect();
    other.expect(&expected);
}

#[test]
fn a_lost_connection_leaves_its_groups() {
    let mut plugin = Scripted::start();
    let (ann, a) = plugin.connect();
    let (mut bob, b) = plugin.connect();
    plugin.run(&format!("@{a} join room; @{b} join room; @{a} join other"));
    ann.kill();
    plugin.event(&format!("lost {a}"));
    plugin.run("say room still; say other nobody");
    bob.expect("still\n");
    // One that is lost does not join again.
    plugin.run(&format!("@{a} join room; say room alone"));
    bob.expect("alone\n");
    plugin.run(&format!("disband room; disband other; @{b} write after"));
    bob.expect("after\n");
}

#[test]
fn a_closing_member_gets_nothing_more_and_everything_before() {
    let mut plugin = Scripted::start();
    let (mut client, id) = plugin.connect();
    plugin.run(&format!(
        "@{id} join room; say room one; @{id} close; say room two"
    ));
    client.expect("one\n");
    client.end();
}

#[test]
fn the_bytes_of_a_group_are_held_once() {
    let mut plugin = Scripted::start();
    let mut members = Vec::new();
    for _ in 0..100 {
        let (client, id) = plugin.connect();
        plugin.run(&format!("@{id} join room"));
        members.push(client.with_small_buffer());
    }
    plugin.settle();
    let before = plugin.host.memory();
    // 90 MB for a hundred members, if each had its own; the kernel's buffers are not the process's.
    plugin.run("say-fill room 900000");
    plugin.settle();
    let grown = plugin.host.memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more");
    for member in &mut members {
        member.expect(pattern(0, 900_000));
    }
}

#[test]
fn a_members_limit_of_unsent_bytes_holds_for_the_group_and_spares_the_others() {
    let mut plugin = Scripted::start();
    let (fast, f) = plugin.connect();
    let (slow, s) = plugin.connect();
    let (mut fast, mut slow) = (fast, slow.with_small_buffer());
    plugin.run(&format!("@{f} join room; @{s} join room"));
    let mut rounds = 0;
    while !plugin.has_event(&format!("lost {s}")) {
        plugin.run("say-fill room 100000");
        fast.expect(pattern(0, 100_000));
        plugin.settle();
        rounds += 1;
        assert!(rounds < 500, "the slow one is never closed");
    }
    assert_eq!(plugin.event(&format!("lost {s}")), "limit unsent bytes");
    slow.reset();
    plugin.run("say room on");
    fast.expect("on\n");
}
