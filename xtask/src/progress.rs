//! What a task is doing now: a bar on a terminal, plain lines anywhere else.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A row of steps.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
}

impl Progress {
    /// Begins a row of at most `steps`.
    pub fn new(steps: u64) -> Progress {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(steps)
        };
        bar.set_style(
            ProgressStyle::with_template("[{bar:24}] {pos}/{len} {spinner} {msg} ({elapsed})")
                .expect("the template is a constant")
                .progress_chars("=> "),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress { bar, plain }
    }

    /// Says which step begins.
    pub fn begin(&self, step: &str) {
        if self.plain {
            eprintln!("{step} …");
        }
        self.bar.set_message(step.to_owned());
    }

    /// Says that the step has ended.
    pub fn end(&self) {
        self.bar.inc(1);
    }

    /// Says something that stays on the screen.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
