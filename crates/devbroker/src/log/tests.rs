//! The log's behaviour as its readers and the retention task see it.

use super::*;
use crate::batch::Sequence;
use crate::batch::tests::{batch, encoded};

fn limits() -> LogLimits {
    LogLimits {
        segment_bytes: 1 << 30,
        segment_ms: i64::MAX,
        retention_bytes: None,
        retention_ms: None,
        max_message_bytes: 1 << 20,
        deletes: true,
    }
}

/// A log of `count` batches of two records each, one ms apart, every batch in a segment of its own.
fn segmented(count: i64) -> (PartitionLog, u64) {
    let one_per_segment = LogLimits { segment_bytes: 1, ..limits() };
    let mut log = PartitionLog::default();
    for n in 0..count {
        log.push(&batch(2, n * 10), stamp(), &one_per_segment);
    }
    (log, batch(2, 0).bytes.len() as u64)
}

fn stamp() -> Stamp {
    Stamp { leader_epoch: 0, now_ms: 0 }
}

#[test]
fn offsets_are_assigned_without_gaps() {
    let mut log = PartitionLog::default();
    let offsets: Vec<_> = [3, 1, 2]
        .into_iter()
        .map(|count| log.append(&batch(count, 0), stamp(), &limits()).unwrap())
        .map(|appended| appended.base_offset)
        .collect();
    assert_eq!((offsets, log.end()), (vec![0, 3, 4], 6));
}

#[test]
fn a_read_starts_with_the_batch_that_holds_the_offset() {
    let (log, one) = segmented(3);
    let read = log.read(3, 1 << 20, false).unwrap();
    assert_eq!(read.len() as u64, 2 * one);
    assert!(log.read(6, 1 << 20, true).unwrap().is_empty());
}

#[test]
fn a_read_is_cut_at_whole_batches_but_gives_one_if_asked() {
    let (log, one) = segmented(3);
    let limit = usize::try_from(one).unwrap() * 2 - 1;
    assert_eq!(log.read(0, limit, false).unwrap().len() as u64, one);
    assert!(log.read(0, 1, false).unwrap().is_empty());
    assert_eq!(log.read(0, 1, true).unwrap().len() as u64, one);
}

#[test]
fn a_read_outside_the_log_is_out_of_range() {
    let (mut log, _) = segmented(3);
    log.delete_records(2).unwrap();
    assert_eq!(log.read(1, 1, true), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(log.read(7, 1, true), Err(ResponseError::OffsetOutOfRange));
}

#[test]
fn retention_by_size_removes_whole_segments_and_never_falls_below_the_limit() {
    let (mut log, one) = segmented(5);
    let two_and_a_half = LogLimits { retention_bytes: Some(one * 5 / 2), ..limits() };
    assert_eq!(log.retain(0, &two_and_a_half), 2 * one);
    assert_eq!((log.start(), log.end(), log.size()), (4, 10, 3 * one));
    assert_eq!(log.retain(0, &two_and_a_half), 0);
}

#[test]
fn retention_by_age_counts_from_the_newest_record_of_a_segment() {
    let (mut log, one) = segmented(3);
    let ten = LogLimits { retention_ms: Some(10), ..limits() };
    assert_eq!(log.retain(11, &ten), 0);
    assert_eq!(log.retain(12, &ten), one);
    assert_eq!(log.retain(1_000, &ten), 2 * one);
    assert_eq!((log.start(), log.end(), log.size()), (6, 6, 0));
}

#[test]
fn a_topic_that_is_only_compacted_keeps_everything() {
    let (mut log, _) = segmented(3);
    let compacted = LogLimits { retention_ms: Some(0), deletes: false, ..limits() };
    assert_eq!(log.retain(1_000, &compacted), 0);
}

#[test]
fn deleted_records_leave_the_size_until_their_segment_goes() {
    let (mut log, one) = segmented(3);
    assert_eq!(log.delete_records(3), Ok(3));
    assert_eq!(log.size(), 3 * one);
    assert_eq!(log.retain(0, &limits()), one);
    assert_eq!(log.start(), 3);
    assert_eq!(log.delete_records(1), Ok(3));
    assert_eq!(log.delete_records(-1), Ok(6));
    assert_eq!(log.delete_records(7), Err(ResponseError::OffsetOutOfRange));
}

#[test]
fn appending_goes_on_behind_a_log_that_retention_emptied() {
    let (mut log, _) = segmented(2);
    log.delete_records(-1).unwrap();
    log.retain(0, &limits());
    let next = log.append(&batch(1, 0), stamp(), &limits()).unwrap();
    assert_eq!((next.base_offset, log.start()), (4, 4));
}

#[test]
fn an_idempotent_producers_resend_is_kept_once() {
    let mut log = PartitionLog::default();
    let sent = |first| {
        let by = Sequence { producer: 1, epoch: 0, first, last: first };
        Batch::parse(Some(encoded(&[b"x"], 0, Some(by)).into())).unwrap()
    };
    log.append(&sent(0), stamp(), &limits()).unwrap();
    let again = log.append(&sent(0), stamp(), &limits()).unwrap();
    assert!(again.duplicate && again.base_offset == 0 && log.end() == 1);
    assert_eq!(
        log.append(&sent(2), stamp(), &limits()),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
}

#[test]
fn a_batch_above_the_limit_is_too_large() {
    let tight = LogLimits { max_message_bytes: 10, ..limits() };
    assert_eq!(
        PartitionLog::default().append(&batch(1, 0), stamp(), &tight),
        Err(ResponseError::MessageTooLarge)
    );
}

#[test]
fn offsets_are_found_by_time() {
    let (log, _) = segmented(3);
    assert_eq!(log.find_timestamp(0), Some((0, 0)));
    assert_eq!(log.find_timestamp(11), Some((3, 11)));
    assert_eq!(log.find_timestamp(22), None);
    assert_eq!(log.newest_timestamp(), Some((5, 21)));
}
