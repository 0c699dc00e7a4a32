//! Named points at which a test has the process die, as a power cut would end it there.
//!
//! Without the feature `killpoints` they are nothing. What arms them is whoever reads the environment.

/// Whether there are any.
pub const ENABLED: bool = cfg!(feature = "killpoints");

/// Arms nothing.
#[cfg(not(feature = "killpoints"))]
#[must_use]
pub const fn arm(_text: &str) -> bool {
    false
}

/// The process is at this point. If it was armed and this is the time that was asked for, it ends here.
#[cfg(not(feature = "killpoints"))]
#[inline]
pub const fn pass(_point: &str) {}

#[cfg(feature = "killpoints")]
pub use armed::{arm, pass};

#[cfg(feature = "killpoints")]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<(String, AtomicU64)> = OnceLock::new();

    /// Has the process die when it passes `POINT` for the n-th time: `POINT:N`. Whether that could be understood.
    #[must_use]
    pub fn arm(text: &str) -> bool {
        let Some((point, Ok(times))) = text.rsplit_once(':').map(|(point, times)| (point, times.parse()))
        else {
            return false;
        };
        ARMED.set((point.to_owned(), AtomicU64::new(times))).is_ok()
    }

    /// The process is at this point. If it was armed and this is the time that was asked for, it ends here.
    pub fn pass(point: &str) {
        let Some((armed, left)) = ARMED.get() else { return };
        if armed == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Not an abort: nothing is flushed and nobody is told, as nothing is at a power cut.
            let _killed = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}
