//! Ranges of free TCP ports on loopback, for servers whose ports follow from one number.
//!
//! A server that can should listen on port 0 instead. A range is free when every port of it can be bound and no other
//! test process holds its lock file, which lives as long as the [`PortRange`]; a crashed process leaves no lock behind.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::{env, fs, process};

/// Below the range (32768 and up) from which Linux takes the ports of outgoing connections.
const LOWEST: u16 = 20_000;
const HIGHEST: u16 = 32_000;
/// The harness spreads the listeners of one cluster over less than a hundred ports.
const STEP: u16 = 100;

/// A range of ports that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct PortRange {
    base: u16,
    _lock: File,
}

impl PortRange {
    /// The first port of the range.
    pub fn base(&self) -> u16 {
        self.base
    }
}

/// Finds `count` (at most 100) free ports in a row.
///
/// # Panics
///
/// When there is no such range, or no directory for the lock files.
pub fn free_port_range(count: u16) -> PortRange {
    assert!(count <= STEP, "ranges are at most {STEP} ports long");
    let locks = env::temp_dir().join("tidegate-test-ports");
    fs::create_dir_all(&locks).expect("the temporary directory can be written");
    let ranges = u32::from((HIGHEST - LOWEST) / STEP);
    // Processes start at different places, so that they seldom try the same range.
    let first = process::id() % ranges;
    for index in 0..ranges {
        let place = u16::try_from((first + index) % ranges).expect("there are few ranges");
        let base = LOWEST + place * STEP;
        let lock = File::create(locks.join(base.to_string())).expect("a lock file can be made");
        if lock.try_lock().is_ok() && (base..base + count).all(is_free) {
            return PortRange { base, _lock: lock };
        }
    }
    panic!("no {count} free ports in a row between {LOWEST} and {HIGHEST}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ranges_held_at_once_do_not_overlap() {
        let one = free_port_range(100);
        let other = free_port_range(100);
        assert!(one.base().abs_diff(other.base()) >= 100);
    }

    #[test]
    fn a_range_with_a_port_in_use_is_passed_over() {
        let range = free_port_range(10);
        let base = range.base();
        let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, base + 3)).expect("the port is free");
        drop(range);
        assert_ne!(free_port_range(10).base(), base);
    }
}
