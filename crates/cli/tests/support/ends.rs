//! The end of a process, and what it has logged.

#[path = "running.rs"]
mod running;

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::running::Running;

pub(crate) fn end(mut process: Running) -> Option<i32> {
    let pid = Pid::from_child(&process.0);
    kill_process(pid, Signal::TERM).unwrap();
    process.0.wait().unwrap().code()
}

pub(crate) fn log(folder: &Path, process: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{process}.log"))).unwrap_or_default()
}
