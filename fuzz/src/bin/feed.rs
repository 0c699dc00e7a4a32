//! `feed TARGET SECONDS [SEED]`: feeds a target's body from a generator, for as long as that. With 0 seconds it is one input.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

static AT: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok());
    let (Some(target), Some(seconds)) = (words.first(), number(1)) else {
        eprintln!("feed TARGET SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let first = number(2).unwrap_or(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        eprintln!("this input alone: feed TARGET 0 {}", AT.load(Ordering::Relaxed));
    }));
    let told = |seed| AT.store(seed, Ordering::Relaxed);
    match switchboard_fuzz::feed::run(target, first, Duration::from_secs(seconds), told) {
        Some(count) => {
            println!("{target}: {count} inputs from seed {first} on, nothing found");
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("no target {target}");
            ExitCode::from(2)
        }
    }
}
