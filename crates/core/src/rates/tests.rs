//! What a rate is under everything that happens to a log.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{Instant, PartitionId, Position, TopicId};

fn at(seconds: u64) -> Instant {
    Instant::since_boot(Duration::from_secs(seconds))
}

fn sample(records: u64, size: u64) -> Sample {
    Sample {
        high_watermark: Position(records),
        log_start: Position(0),
        size: Some(size),
        leader: 1,
    }
}

fn offsets_only(records: u64) -> Sample {
    Sample { size: None, ..sample(records, 0) }
}

fn window() -> RateWindow {
    RateWindow::new(Duration::from_secs(30), Duration::from_secs(10), Basis::Best)
}

fn measured(window: &RateWindow, seconds: u64) -> Measurement {
    window.measure(at(seconds)).expect("the partition is measured")
}

#[test]
fn a_steady_rate_is_measured_from_log_sizes() {
    let mut window = window();
    for second in 0..100 {
        window.push(at(second), sample(second * 10, second * 1230));
    }
    let measured = measured(&window, 99);
    assert_eq!((measured.write_rate, measured.filtered_rate), (1230, 1230));
    assert_eq!((measured.records_per_sec, measured.bytes_per_record), (10, Some(123)));
    assert_eq!((measured.window, measured.source), (Duration::from_secs(30), Source::LogSize));
}

#[test]
fn one_sample_is_no_rate() {
    let mut window = window();
    window.push(at(0), sample(10, 100));
    assert_eq!(window.measure(at(0)), None);
    window.push(at(0), sample(20, 200));
    assert_eq!(window.measure(at(0)), None, "two at one moment neither");
}

#[test]
fn an_idle_partition_has_a_rate_of_zero() {
    let mut window = window();
    window.push(at(0), sample(10, 100));
    window.push(at(1), sample(10, 100));
    assert_eq!(measured(&window, 1).write_rate, 0);
}

#[test]
fn after_a_step_the_filter_has_63_percent_in_10_s_and_95_percent_in_30_s() {
    let mut window = window();
    let bytes = |second: u64| second.saturating_sub(100) * 1_000_000;
    for second in 0..=130 {
        window.push(at(second), sample(bytes(second) / 100, bytes(second)));
        match second {
            110 => assert_eq!(measured(&window, second).filtered_rate, 632_121),
            130 => assert_eq!(measured(&window, second).filtered_rate, 950_213),
            _ => {}
        }
    }
    assert_eq!(measured(&window, 130).write_rate, 1_000_000);
}

#[test]
fn the_filter_does_not_depend_on_how_often_it_is_fed() {
    let mut often = LowPass::new(Duration::from_secs(10));
    let mut seldom = often;
    often.push(0, Duration::from_secs(1));
    seldom.push(0, Duration::from_secs(1));
    for _ in 0..10 {
        often.push(1_000_000, Duration::from_secs(1));
    }
    seldom.push(10_000_000, Duration::from_secs(10));
    assert_eq!(often.rate(), seldom.rate());
}

#[test]
fn retention_does_not_show_in_the_rate() {
    let mut window = window();
    for second in 0..60 {
        // Every ten seconds the oldest 80 records go.
        let start = second / 10 * 80;
        let log_start = Position(start);
        let size = Some((second * 10 - start) * 123);
        let sample = Sample { log_start, size, ..sample(second * 10, 0) };
        window.push(at(second), sample);
        if second > 1 {
            assert_eq!(measured(&window, second).filtered_rate, 1230, "second {second}");
        }
        if second == 50 {
            assert_eq!(measured(&window, second).source, Source::HighWatermark);
        }
    }
    assert_eq!(measured(&window, 59).write_rate, 1230);
}

#[test]
fn by_log_sizes_alone_a_log_that_grows_is_right_and_one_that_shrinks_is_not_measured() {
    let (span, time_constant) = (Duration::from_secs(30), Duration::from_secs(10));
    let mut window = RateWindow::new(span, time_constant, Basis::LogSizesOnly);
    for second in 0..10 {
        window.push(at(second), sample(second * 10, second * 1230));
    }
    assert_eq!(measured(&window, 9).write_rate, 1230);
    // 40 records are deleted and 10 written: what is left of the published difference is below zero.
    let deleted = Sample { log_start: Position(40), ..sample(100, 60 * 123) };
    window.push(at(10), deleted);
    assert_eq!(window.measure(at(10)), None);
    // Half of what is deleted is written again: the published difference is too small, and offsets do not mend it.
    window.push(at(11), Sample { log_start: Position(40), ..sample(110, 70 * 123) });
    window.push(at(12), Sample { log_start: Position(45), ..sample(120, 75 * 123) });
    window.push(at(13), Sample { log_start: Position(45), ..sample(130, 85 * 123) });
    assert_eq!(measured(&window, 13).write_rate, (15 * 123) / 2 + 1);
    assert_eq!(measured(&window, 13).source, Source::LogSize);
}

/// The log of the new leader was 5 MB larger, as its segments had not been deleted yet: a rate of 5 MB/s.
#[test]
fn by_log_sizes_alone_a_new_leader_with_another_log_size_makes_no_rate() {
    let (span, time_constant) = (Duration::from_secs(30), Duration::from_secs(10));
    let mut window = RateWindow::new(span, time_constant, Basis::LogSizesOnly);
    for second in 0..20 {
        let (leader, more) = if second < 10 { (1, 0) } else { (2, 5_000_000) };
        window.push(at(second), Sample { leader, ..sample(second * 10, second * 1000 + more) });
        match second {
            // One sample of the new leader is no rate, and it has been forgotten that there was one.
            0 | 10 | 11 => assert_eq!(window.measure(at(second)), None),
            _ => {
                let measured = measured(&window, second);
                assert_eq!((measured.write_rate, measured.filtered_rate), (1000, 1000));
            }
        }
    }
}

#[test]
fn by_log_sizes_alone_a_leader_that_is_not_known_is_no_other() {
    let (span, time_constant) = (Duration::from_secs(30), Duration::from_secs(10));
    let mut window = RateWindow::new(span, time_constant, Basis::LogSizesOnly).empty_at(at(0));
    for (second, leader) in [(1, 1), (2, -1), (3, 1)] {
        window.push(at(second), Sample { leader, ..sample(second * 10, second * 1000) });
        assert_eq!(measured(&window, second).write_rate, 1000);
    }
}

#[test]
fn by_log_sizes_alone_bytes_per_record_follow_what_is_written() {
    let (span, time_constant) = (Duration::from_secs(30), Duration::from_secs(10));
    let mut window = RateWindow::new(span, time_constant, Basis::LogSizesOnly);
    window.push(at(0), sample(1000, 100_000));
    assert_eq!(window.measure(at(0)), None);
    for second in 1..100 {
        window.push(at(second), sample(1000 + second * 10, 100_000 + second * 5000));
        assert_eq!(measured(&window, second).bytes_per_record, Some(500), "and not the log's 100");
    }
}

#[test]
fn by_log_sizes_alone_nothing_is_known_where_they_are_refused() {
    let (span, time_constant) = (Duration::from_secs(30), Duration::from_secs(10));
    let mut window = RateWindow::new(span, time_constant, Basis::LogSizesOnly);
    window.learn(BytesPerRecord::new(123, 1).expect("it is a ratio"));
    for second in 0..10 {
        window.push(at(second), offsets_only(second * 10));
        assert_eq!(window.measure(at(second)), None, "second {second}");
    }
}

#[test]
fn compaction_below_the_former_size_does_not_show_in_the_rate() {
    let mut window = window();
    window.push(at(0), sample(0, 0));
    window.push(at(1), sample(10, 1000));
    window.push(at(2), sample(20, 700));
    assert_eq!(measured(&window, 2).write_rate, 1000);
    assert_eq!(measured(&window, 2).source, Source::HighWatermark);
}

/// Smaller records would look the same: the limit that `docs/rates.md` names.
#[test]
fn compaction_that_takes_away_less_than_was_written_is_missing_in_one_sample() {
    let mut window = window();
    for second in 0..=20 {
        let taken = if second < 10 { 0 } else { 700 };
        window.push(at(second), sample(second * 10, second * 1000 - taken));
    }
    assert_eq!(measured(&window, 20).write_rate, (20_000 - 700) / 20);
}

#[test]
fn a_new_leader_with_another_log_size_makes_no_spike() {
    let mut window = window();
    for second in 0..20 {
        let size = if second < 10 { second * 1000 } else { second * 1000 + 5_000_000 };
        let leader = if second < 10 { 1 } else { 2 };
        window.push(at(second), Sample { leader, ..sample(second * 10, size) });
        if second > 0 {
            assert_eq!(measured(&window, second).filtered_rate, 1000);
        }
    }
    assert_eq!(measured(&window, 19).source, Source::LogSize);
}

#[test]
fn a_high_watermark_that_lags_after_an_election_is_missing_and_never_negative() {
    let mut window = window();
    for second in 0..=10 {
        window.push(at(second), sample(second * 10, second * 1000));
    }
    let behind = Sample { leader: 2, ..sample(95, 9500) };
    window.push(at(11), behind);
    assert_eq!(measured(&window, 11).staleness, Duration::from_secs(1));
    window.push(at(12), Sample { leader: 2, ..sample(120, 12_000) });
    assert_eq!(measured(&window, 12).write_rate, 1000);
    assert_eq!(measured(&window, 12).filtered_rate, 1000);
}

#[test]
fn a_log_that_was_cut_is_measured_again_from_where_it_is() {
    let mut window = window();
    for second in 0..=10 {
        window.push(at(second), sample(second * 10, second * 1000));
    }
    for second in 11..=20 {
        window.push(at(second), sample(second, second * 100));
    }
    assert_eq!(measured(&window, 20).write_rate, 100);
    assert_eq!(measured(&window, 20).window, Duration::from_secs(4));
}

#[test]
fn without_log_sizes_bytes_come_from_batches_and_are_missing_before() {
    let mut window = window();
    for second in 0..10 {
        window.push(at(second), offsets_only(second * 10));
    }
    assert_eq!(window.measure(at(9)), None, "no zero for what is not known");
    window.learn(BytesPerRecord::new(500, 2).expect("both are above zero"));
    for second in 10..13 {
        window.push(at(second), offsets_only(second * 10));
    }
    let measured = measured(&window, 12);
    assert_eq!((measured.write_rate, measured.filtered_rate), (2500, 2500));
    assert_eq!((measured.bytes_per_record, measured.source), (Some(250), Source::HighWatermark));
}

#[test]
fn batches_are_believed_soon_after_log_sizes_are_refused() {
    let mut window = window();
    for second in 0..100 {
        window.push(at(second), sample(second * 10_000, second * 1_000_000));
    }
    for second in 100..140 {
        window.learn(BytesPerRecord::new(50 * 400, 50).expect("both are above zero"));
        window.push(at(second), offsets_only(second * 10_000));
    }
    let learned = measured(&window, 139).bytes_per_record.expect("batches told");
    assert!((370..=400).contains(&learned), "{learned}, of 100 before and 400 now");
}

#[test]
fn a_size_that_runs_ahead_of_the_high_watermark_does_not_spoil_bytes_per_record() {
    let mut window = window();
    for second in 0..20 {
        window.push(at(second), sample(second * 10, second * 1000));
    }
    // 50 records are in the log, and only one of them is replicated; then retention makes offsets the source.
    window.push(at(20), sample(191, 24_000));
    window.push(at(21), Sample { log_start: Position(100), ..sample(240, 14_000) });
    let bytes = measured(&window, 21).bytes_per_record.expect("log sizes have told");
    assert!(
        (100..=150).contains(&bytes),
        "{bytes} bytes per record; the last step alone says 5000"
    );
}

/// A partition that had been idle for ten minutes was measured with 355 GB/s: forgetting had worn the ratio down, and the next
/// records, whose log had grown one sample before, were counted by it, and twice.
#[test]
fn after_ten_idle_minutes_a_size_that_runs_ahead_is_counted_once_and_teaches_the_right_ratio() {
    let mut window = window();
    for second in 0..60 {
        window.push(at(second), sample(second * 10, second * 10_000));
    }
    let (records, size) = (590, 590_000);
    for second in 60..660 {
        window.push(at(second), sample(records, size));
    }
    assert_eq!(measured(&window, 659).bytes_per_record, Some(1000));
    window.push(at(660), sample(records, size + 421_000));
    window.push(at(661), sample(records + 421, size + 421_000));
    let measured = measured(&window, 661);
    assert_eq!(measured.bytes_per_record, Some(1000));
    assert_eq!(measured.write_rate, 421_000 / 30, "once, over a window of 30 s");
    assert!(measured.filtered_rate < 50_000);
}

#[test]
fn after_a_gap_the_rate_is_that_of_the_gap() {
    let mut window = window();
    for second in 0..=10 {
        window.push(at(second), sample(second * 10, second * 1000));
    }
    for second in 11..25 {
        window.missing(at(second));
    }
    assert_eq!(measured(&window, 24).staleness, Duration::from_secs(14));
    window.push(at(25), sample(250, 25_000));
    assert_eq!(
        (measured(&window, 25).write_rate, measured(&window, 25).filtered_rate),
        (1000, 1000)
    );
}

#[test]
fn a_partition_that_is_silent_for_longer_than_the_window_is_missing() {
    let mut window = window();
    window.push(at(0), sample(0, 0));
    window.push(at(1), sample(10, 1000));
    assert!(window.measure(at(31)).is_some());
    assert_eq!(window.measure(at(32)), None);
    window.push(at(60), sample(600, 60_000));
    assert_eq!(window.measure(at(60)), None, "the last sample before is no longer in the window");
    window.push(at(61), sample(610, 61_000));
    assert_eq!(measured(&window, 61).write_rate, 1000);
}

proptest! {
    #[test]
    fn no_history_makes_a_rate_above_what_was_ever_written(
        steps in prop::collection::vec((0_u64..5000, 0_u64..400, 0_i32..3, 0_u64..50, any::<bool>()), 2..80),
    ) {
        // Records of 100 bytes; leaders move, retention deletes, sizes come or not.
        let mut window = window();
        let (mut now, mut records, mut start, mut fastest) = (0, 0, 0, 0);
        for (elapsed, written, leader, deleted, with_size) in steps {
            let elapsed = elapsed + 1;
            now += elapsed;
            records += written;
            start = (start + deleted).min(records);
            fastest = fastest.max(written * 100 * 1000 / elapsed + 1);
            let size = with_size.then_some((records - start) * 100);
            let sample = Sample { high_watermark: Position(records), log_start: Position(start), size, leader };
            let at = Instant::since_boot(Duration::from_millis(now));
            window.push(at, sample);
            if let Some(measured) = window.measure(at) {
                prop_assert!(measured.write_rate <= fastest);
                prop_assert!(measured.filtered_rate <= fastest);
            }
        }
    }
}

// === Monitor ===

fn topic() -> TopicId {
    TopicId([7; 16])
}

fn round(seconds: u64, partitions: &[(u32, Option<Sample>)]) -> Round {
    let partitions = partitions.iter().copied().collect();
    let seen = TopicRound { listed_at: at(seconds), absent_at: None, partitions };
    Round { topics: BTreeMap::from([(topic(), seen)]) }
}

fn step(monitor: &mut Monitor, seconds: u64, partitions: &[(u32, Option<Sample>)]) -> TopicReport {
    let mut reports = monitor.step(at(seconds), &round(seconds, partitions));
    reports.remove(&topic()).expect("every topic of a round is reported")
}

#[test]
fn a_report_is_full_at_first_and_every_30_s_and_lists_changes_between() {
    let mut monitor = Monitor::new(Settings::default());
    let mut full = BTreeSet::new();
    for second in 0..100 {
        let steady = sample(second * 10, second * 1000);
        let report = step(&mut monitor, second, &[(0, Some(steady)), (1, None)]);
        assert!(report.missing.contains(&1), "missing ones are always listed");
        if report.full {
            full.insert(second);
        } else if second > 1 {
            assert_eq!(report.rates, BTreeMap::new(), "second {second}: unchanged is not listed");
        }
    }
    assert_eq!(full, BTreeSet::from([0, 30, 60, 90]));
}

#[test]
fn a_rate_is_listed_when_it_has_moved_by_more_than_1_percent() {
    let mut monitor = Monitor::new(Settings::default());
    let mut size = 0;
    let mut published = Vec::new();
    for second in 0..29 {
        size += if second < 10 { 1000 } else { 1010 };
        let report = step(&mut monitor, second, &[(0, Some(sample(second, size)))]);
        published.extend(report.rates.values().map(|measured| measured.filtered_rate));
    }
    assert_eq!(published, [1000]);
    for second in 29..40 {
        size += 2000;
        let report = step(&mut monitor, second, &[(0, Some(sample(second, size)))]);
        assert!(!report.rates.is_empty(), "second {second}");
    }
}

#[test]
fn a_partition_that_is_measured_again_is_listed() {
    let mut monitor = Monitor::new(Settings::default());
    for second in 0..5 {
        step(&mut monitor, second, &[(0, Some(sample(second, second * 1000)))]);
    }
    assert!(step(&mut monitor, 5, &[(0, None)]).missing.contains(&0));
    let report = step(&mut monitor, 6, &[(0, Some(sample(6, 6000)))]);
    assert_eq!(report.rates[&0].filtered_rate, 1000);
}

#[test]
fn a_partition_that_appears_later_is_measured_from_its_first_record() {
    let mut monitor = Monitor::new(Settings::default());
    step(&mut monitor, 0, &[(0, Some(sample(0, 0)))]);
    let report = step(&mut monitor, 5, &[(0, Some(sample(0, 0))), (1, Some(sample(50, 5000)))]);
    assert_eq!(report.rates[&1].write_rate, 1000);
    assert_eq!(report.rates[&1].records_per_sec, 10);
}

#[test]
fn a_partition_of_the_first_round_that_answers_late_is_not_measured_from_zero() {
    let mut monitor = Monitor::new(Settings::default());
    step(&mut monitor, 0, &[(0, None)]);
    let report = step(&mut monitor, 1, &[(0, Some(sample(1_000_000, 100_000_000)))]);
    assert!(report.missing.contains(&0));
}

#[test]
fn a_topic_known_to_be_new_is_measured_from_its_first_record_and_an_old_one_is_not() {
    let mut monitor = Monitor::new(Settings::default());
    let partitions = BTreeMap::from([(0, Some(sample(50, 5000)))]);
    let new = TopicRound { listed_at: at(105), absent_at: Some(at(100)), partitions };
    let old = TopicRound { absent_at: None, ..new.clone() };
    let other = TopicId([8; 16]);
    let round = Round { topics: BTreeMap::from([(topic(), new), (other, old)]) };
    let reports = monitor.step(at(105), &round);
    assert_eq!(reports[&topic()].rates[&0].write_rate, 1000);
    assert!(reports[&other].missing.contains(&0));
}

#[test]
fn a_topic_that_was_created_again_is_another_topic() {
    let mut monitor = Monitor::new(Settings::default());
    for second in 0..5 {
        step(&mut monitor, second, &[(0, Some(sample(second * 10, second * 1000)))]);
    }
    let partitions = BTreeMap::from([(0, Some(sample(3, 300)))]);
    let seen = TopicRound { listed_at: at(5), absent_at: Some(at(4)), partitions };
    let again = TopicId([9; 16]);
    let reports = monitor.step(at(5), &Round { topics: BTreeMap::from([(again, seen)]) });
    assert_eq!(reports.len(), 1, "the old one is forgotten");
    assert_eq!(reports[&again].rates[&0].write_rate, 300);
}

#[test]
fn what_batches_tell_reaches_a_partition_without_log_sizes_and_follows_its_records() {
    let mut monitor = Monitor::new(Settings::default());
    let partition = PartitionId { topic: topic(), number: 0 };
    let batch = |bytes| BytesPerRecord::new(bytes, 5).expect("both are above zero");
    monitor.learn(partition, batch(1000));
    let nothing = step(&mut monitor, 0, &[(0, Some(offsets_only(10)))]);
    assert_eq!(nothing.missing, BTreeSet::from([0]), "one sample is no rate");
    let report = step(&mut monitor, 1, &[(0, Some(offsets_only(20)))]);
    assert_eq!((report.rates[&0].write_rate, report.rates[&0].bytes_per_record), (2000, Some(200)));
    let mut last = None;
    for second in 2..300 {
        monitor.learn(partition, batch(2000));
        let report = step(&mut monitor, second, &[(0, Some(offsets_only(10 + 10 * second)))]);
        last = report.rates.get(&0).copied().or(last);
    }
    let last = last.expect("a full report comes every 30 seconds");
    assert_eq!(last.bytes_per_record, Some(400));
    assert!(last.write_rate.abs_diff(4000) <= 1, "rounded each second: {}", last.write_rate);
}
