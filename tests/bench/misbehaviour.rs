//! What a neighbour on the same worker notices of each deed of the guest `misbehaves`.

use clap::Args;
use nethost_tests::misbehaviour::{DEEDS, Deed, GOAL, LINES, Pair};

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each deed is done
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Only deeds whose name has this part
    #[arg(long, default_value = "")]
    deed: String,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    println!(
        "the longest that an echo of 9 bytes took beside it, of {} times",
        options.rounds
    );
    println!("goal: {GOAL:?}, twice the deadline of a call\n");
    let mut over = 0;
    let deeds = DEEDS
        .iter()
        .filter(|deed| deed.name.contains(&options.deed));
    for deed in deeds {
        let pair = Pair::start(LINES);
        let neighbour = pair.neighbour();
        for round in 1..=options.rounds {
            pair.perform(deed, round);
        }
        let worst = neighbour.stop().worst;
        let Deed { name, callback, .. } = deed;
        let verdict = if worst > GOAL {
            over += 1;
            "over"
        } else {
            ""
        };
        let worst = worst.as_secs_f64() * 1e3;
        println!("{name:20} {callback:20} {worst:8.2} ms {verdict}");
    }
    println!("\n{over} over the goal");
    Ok(())
}
