//! librdkafka's consumer, read in batches: a lock and a wake-up for a thousand records instead of for each. This is the
//! one place where Tidegate calls the C library itself.
//!
//! Records, and errors of partitions, come on the consumer's queue. All else that librdkafka has to tell (errors of the
//! client, its log, the wish for a bearer token) would come there too, and be swallowed by the call that takes records in
//! batches. So its main queue is parted from that one here, and looked at by itself.

#![expect(unsafe_code, reason = "the Rust client has no call that takes records in batches")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext as _, TopicPartitionList};

use crate::config::Callbacks;

/// Records that are taken from the queue in one call.
pub(crate) const BATCH: usize = 1000;

/// Bytes for the text of an error.
const TEXT: usize = 512;

/// A consumer whose records are taken in batches. It wakes the thread that made it when there is something to take.
pub(crate) struct BatchConsumer {
    // In this order: the queues go before the client that they belong to.
    main: Queue,
    records: Queue,
    consumer: BaseConsumer<Callbacks>,
    callbacks: Callbacks,
    batch: Box<[*mut c::rd_kafka_message_t; BATCH]>,
}

/// What the consumer's queue held.
#[derive(Debug)]
pub(crate) enum Taken<'a> {
    /// A record.
    Record(Fetched<'a>),
    /// Reading this partition has met an error; librdkafka goes on by itself.
    Failed(Fault<'a>),
}

/// An error, and the partition that it is about where librdkafka tells.
#[derive(Debug)]
pub(crate) struct Fault<'a> {
    pub(crate) error: KafkaError,
    pub(crate) partition: Option<(&'a str, i32)>,
    /// What librdkafka says of it.
    pub(crate) text: String,
}

/// A record in librdkafka's memory.
#[derive(Debug)]
pub(crate) struct Fetched<'a> {
    message: &'a c::rd_kafka_message_t,
}

/// A handle on one of librdkafka's queues.
struct Queue {
    queue: NonNull<c::rd_kafka_queue_t>,
    /// Who is woken: a box that librdkafka reads from.
    wakes: *mut Thread,
}

/// An event of the main queue.
struct Event(NonNull<c::rd_kafka_event_t>);

// === impl BatchConsumer ===

impl BatchConsumer {
    /// Takes a new consumer over, which has nothing assigned yet.
    pub(crate) fn new(consumer: BaseConsumer<Callbacks>, callbacks: Callbacks) -> Self {
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives, and is one of a group: it has both queues.
        let (main, records) = unsafe {
            (
                Queue::new(c::rd_kafka_queue_get_main(client)),
                Queue::new(c::rd_kafka_queue_get_consumer(client)),
            )
        };
        // SAFETY: the queue lives; without a second one it goes back to keeping what comes.
        unsafe { c::rd_kafka_queue_forward(main.queue.as_ptr(), ptr::null_mut()) };
        let batch = Box::new([ptr::null_mut(); BATCH]);
        let consumer = Self { main, records, consumer, callbacks, batch };
        // What has come so far, such as the first wish for a token, is in the consumer's queue. An event that is no record looks
        // like an empty queue to whoever polls.
        while consumer.records.len() > 0 {
            drop(consumer.poll(Duration::ZERO));
        }
        consumer
    }

    /// Takes what is ready, at most so many records and at most [`BATCH`]. Returns how many there were; fewer when there are no
    /// more.
    pub(crate) fn take(&mut self, most: usize, mut each: impl FnMut(Taken<'_>)) -> usize {
        let (room, most) = (self.batch.as_mut_ptr(), most.min(BATCH));
        // SAFETY: there is room for so many pointers; no other thread takes from this queue.
        let count =
            unsafe { c::rd_kafka_consume_batch_queue(self.records.queue.as_ptr(), 0, room, most) };
        let taken =
            self.batch.get(..usize::try_from(count).unwrap_or_default()).unwrap_or_default();
        for &message in taken {
            // SAFETY: librdkafka gave us so many messages, each ours until it is destroyed, which it is below.
            if let Some(borrowed) = unsafe { message.as_ref() } {
                each(Taken::of(borrowed));
            }
            // SAFETY: the message is ours, and nothing borrows from it any more.
            unsafe { c::rd_kafka_message_destroy(message) };
        }
        taken.len()
    }

    /// Serves the main queue: tokens and the log go their ways, errors are returned.
    pub(crate) fn errors(&mut self) -> Vec<KafkaError> {
        let mut errors = Vec::new();
        while let Some(event) = self.main.poll() {
            match event.kind() {
                c::RD_KAFKA_EVENT_ERROR => errors.extend(self.error(&event)),
                c::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => self.refresh_token(),
                c::RD_KAFKA_EVENT_LOG => self.log(&event),
                _ => {}
            }
        }
        errors
    }

    /// Fills in where this client is in the partitions of a list: after the last record that was taken, or after the marker of a
    /// transaction that follows it.
    pub(crate) fn look_at_positions(&self, list: &TopicPartitionList) {
        // SAFETY: client and list live during the call. What it returns is for the whole; each partition has its own error.
        unsafe { c::rd_kafka_position(self.consumer.client().native_ptr(), list.ptr()) };
    }

    fn error(&self, event: &Event) -> Option<KafkaError> {
        // SAFETY: the event lives, and its text as long as it does.
        let (code, text) = unsafe {
            let event = event.0.as_ptr();
            (c::rd_kafka_event_error(event), text(c::rd_kafka_event_error_string(event)))
        };
        let code = code_of(code)?;
        self.callbacks.error(KafkaError::Global(code), &text);
        Some(KafkaError::MessageConsumption(code))
    }

    fn log(&self, event: &Event) {
        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is of the log, and its texts live as long as it does.
        let (told, facility, line) = unsafe {
            let told = c::rd_kafka_event_log(
                event.0.as_ptr(),
                &raw mut facility,
                &raw mut line,
                &raw mut level,
            );
            (told == 0, text(facility), text(line))
        };
        if told {
            self.callbacks.log(level_of(level), &facility, &line);
        }
    }

    fn refresh_token(&self) {
        let client = self.consumer.client().native_ptr();
        let given = self.callbacks.generate_oauth_token(None).map_err(|error| error.to_string());
        let refused = given.and_then(|given| {
            let plain = |text: String| CString::new(text).map_err(|error| error.to_string());
            let (token, name) = (plain(given.token)?, plain(given.principal_name)?);
            let mut why: [c_char; TEXT] = [0; TEXT];
            // SAFETY: the client and all texts live during the call, and there is room for the reason.
            let code = unsafe {
                let (room, size) = (why.as_mut_ptr(), why.len());
                let (token, name) = (token.as_ptr(), name.as_ptr());
                c::rd_kafka_oauthbearer_set_token(
                    client,
                    token,
                    given.lifetime_ms,
                    name,
                    ptr::null_mut(),
                    0,
                    room,
                    size,
                )
            };
            // SAFETY: librdkafka has ended the text with a zero, or left it as it was.
            code_of(code).map_or(Ok(()), |_| Err(unsafe { text(why.as_ptr()) }))
        });
        if let Err(reason) = refused {
            let reason = CString::new(reason.replace('\0', " ")).unwrap_or_default();
            // SAFETY: client and text live during the call.
            unsafe { c::rd_kafka_oauthbearer_set_token_failure(client, reason.as_ptr()) };
        }
    }
}

impl Drop for BatchConsumer {
    /// librdkafka empties the main queue at its end, and through it the consumer's, or waits for ever for who holds what is in
    /// there: the two are joined again.
    fn drop(&mut self) {
        let (main, records) = (self.main.queue.as_ptr(), self.records.queue.as_ptr());
        // SAFETY: both queues live.
        unsafe { c::rd_kafka_queue_forward(main, records) };
    }
}

/// All that needs no batches is as it was.
impl Deref for BatchConsumer {
    type Target = BaseConsumer<Callbacks>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

// === impl Taken ===

impl<'a> Taken<'a> {
    fn of(message: &'a c::rd_kafka_message_t) -> Self {
        let Some(code) = code_of(message.err) else { return Self::Record(Fetched { message }) };
        let fetched = Fetched { message };
        // SAFETY: the text of an error ends with a zero, and lives as long as its message.
        let text = unsafe { text(c::rd_kafka_message_errstr(message)) };
        let error = KafkaError::MessageConsumption(code);
        Self::Failed(Fault {
            error,
            partition: fetched.topic().map(|topic| (topic, message.partition)),
            text,
        })
    }
}

// === impl Fetched ===

impl<'a> Fetched<'a> {
    /// The topic's name; librdkafka knows it for every record.
    pub(crate) fn topic(&self) -> Option<&'a str> {
        if self.message.rkt.is_null() {
            return None;
        }
        // SAFETY: the message holds the topic, and the topic its name.
        let name = unsafe { CStr::from_ptr(c::rd_kafka_topic_name(self.message.rkt)) };
        name.to_str().ok()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    /// The error for a record that cannot be read.
    pub(crate) fn damaged(&self) -> Fault<'a> {
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage);
        let text =
            format!("the headers of the record at offset {} cannot be read", self.message.offset);
        Fault { error, partition: self.topic().map(|topic| (topic, self.message.partition)), text }
    }

    /// Tells partitions apart as long as records of both are at hand, more cheaply than by their names.
    pub(crate) fn place(&self) -> (usize, i32) {
        (self.message.rkt.addr(), self.message.partition)
    }

    pub(crate) fn offset(&self) -> Option<u64> {
        u64::try_from(self.message.offset).ok()
    }

    /// In milliseconds; -1 when the record has none.
    pub(crate) fn timestamp_ms(&self) -> i64 {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives.
        let at = unsafe { c::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        if kind == c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE { -1 } else { at }
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the message has a key of this length, or none, and lives for 'a.
        unsafe { bytes(self.message.key, self.message.key_len) }
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: the same for its value.
        unsafe { bytes(self.message.payload, self.message.len) }
    }

    /// Calls with each header in order. Returns false when they cannot be read, and the record is not what was written.
    #[must_use]
    pub(crate) fn headers(&self, mut each: impl FnMut(String, Option<&'a [u8]>)) -> bool {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives; it keeps the list, which is parsed at the first call.
        let code = unsafe { c::rd_kafka_message_headers(self.message, &raw mut headers) };
        if let Some(code) = code_of(code) {
            return code == RDKafkaErrorCode::NoEnt;
        }
        for at in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the list lives with its message; beyond its end there is an error.
            let code = unsafe {
                c::rd_kafka_header_get_all(
                    headers,
                    at,
                    &raw mut name,
                    &raw mut value,
                    &raw mut size,
                )
            };
            if code_of(code).is_some() {
                break;
            }
            // SAFETY: the name ends with a zero, the value has this length, and both live with their message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, size)) };
            // Kafka's protocol has text there; what is none is shown as near to it as can be.
            each(name.to_string_lossy().into_owned(), value);
        }
        true
    }
}

// === impl Queue ===

impl Queue {
    /// # Safety
    ///
    /// The queue must be a new handle of a client that outlives this.
    unsafe fn new(queue: *mut c::rd_kafka_queue_t) -> Self {
        let queue = NonNull::new(queue).expect("librdkafka has this queue of every consumer");
        let wakes = Box::into_raw(Box::new(std::thread::current()));
        // SAFETY: the thread's handle is kept until the callback is taken back, in `drop`.
        unsafe { c::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), wakes.cast()) };
        Self { queue, wakes }
    }

    fn len(&self) -> usize {
        // SAFETY: the queue lives.
        unsafe { c::rd_kafka_queue_length(self.queue.as_ptr()) }
    }

    fn poll(&mut self) -> Option<Event> {
        // SAFETY: the queue lives; an event that it returns is ours.
        NonNull::new(unsafe { c::rd_kafka_queue_poll(self.queue.as_ptr(), 0) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: both are ours, and given back once. librdkafka changes the callback and calls it under one lock, so nobody reads
        // the thread's handle any more.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
            drop(Box::from_raw(self.wakes));
        }
    }
}

// === impl Event ===

impl Event {
    fn kind(&self) -> i32 {
        // SAFETY: the event lives.
        unsafe { c::rd_kafka_event_type(self.0.as_ptr()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and given back once.
        unsafe { c::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

unsafe extern "C" fn wake(_client: *mut c::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: this is the thread's handle that `Queue::new` gave with the callback.
    if let Some(thread) = unsafe { opaque.cast::<Thread>().as_ref() } {
        thread.unpark();
    }
}

fn code_of(code: c::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    let is_error = code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    is_error.then(|| code.into())
}

/// librdkafka counts levels as syslog does.
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        i32::MIN..=0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        7..=i32::MAX => RDKafkaLogLevel::Debug,
    }
}

/// # Safety
///
/// The pointer must be null, or at a text that ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// # Safety
///
/// The pointer must be null, or at so many bytes that live for 'a.
unsafe fn bytes<'a>(at: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), size) })
}
