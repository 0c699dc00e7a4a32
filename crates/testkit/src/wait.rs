//! Waits for a condition with a deadline, never for a duration.

use anyhow::{Result, bail};
use std::fmt;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen. Generous, as it only costs time where something is broken.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// # Errors
/// There was none before [`DEADLINE`]; `what` says what was waited for.
pub async fn until<T>(what: impl fmt::Display, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if begun.elapsed() > DEADLINE {
            bail!("waited {DEADLINE:?} in vain: {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
