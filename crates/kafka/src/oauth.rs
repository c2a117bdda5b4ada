//! Bearer tokens for both clients: the one place that gets them, from a file or from a token endpoint.
//!
//! ```text
//!  thin layer, per connection ──┐            ┌── file: read each time
//!                               ├─► current ─┤
//!  librdkafka, when it asks ────┘            └── endpoint: kept while fresh ◄── a thread of its own
//! ```
//!
//! librdkafka asks on the threads that report deliveries. A slow endpoint therefore holds them up for
//! [`A_MOMENT`] and no longer: they get the old token while it holds, else an error that passes, and ask again.

mod endpoint;
mod token;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::OAuthToken;
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{BootClock, Class, Clock, Error};
use tidegate_runtime::security::{Mechanism, Sasl};

use self::endpoint::{Endpoint, FETCH_TIMEOUT};
pub(crate) use self::token::Token;

/// How long an asker waits for a new token while the old one holds: longer than an endpoint takes that is well, and short
/// beside the time-outs of leases.
const A_MOMENT: Duration = Duration::from_secs(1);

/// How long the thin layer waits that has no token: the fetch has its own time-out, and this one is for what it lacks.
const PATIENCE: Duration = FETCH_TIMEOUT.saturating_add(Duration::from_secs(5));

/// For how long a failure is the answer to whoever asks next. Endpoints lock out those who ask too often.
const FAILURE_KEPT_MS: u64 = 1000;

/// Where tokens come from.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<Inner>);

/// A token as somebody was given it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    token: Token,
    /// Got for this asker. One that was kept may have been revoked since.
    is_new: bool,
}

struct Inner {
    source: Source,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Asks for a token at a time.
type Fetch = Box<dyn Fn(u64) -> Result<Token, Error> + Send + Sync>;

enum Source {
    File(String),
    Endpoint(Fetch),
}

/// A fetch. However it ends, those who wait for it are told, and the next one can begin.
struct UnderWay<'a> {
    inner: &'a Inner,
    /// `None` until there is one, and for ever when the thread panics.
    outcome: Option<Result<Token, Error>>,
}

#[derive(Default)]
struct State {
    /// The last one that was got, unless a broker has refused it.
    token: Option<Token>,
    /// The file had a token once.
    had_token: bool,
    /// A broker has taken a token.
    taken: bool,
    /// Why the last attempt failed, and when.
    failure: Option<(Error, u64)>,
    fetching: bool,
    /// How many fetches have ended.
    fetched: u64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

// === impl Given ===

impl Given {
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }
}

// === impl Tokens ===

impl Tokens {
    /// The source that the settings name; `None` for other mechanisms.
    pub(crate) fn of(sasl: &Sasl) -> Result<Option<Self>, Error> {
        if sasl.mechanism != Mechanism::OauthBearer {
            return Ok(None);
        }
        let source = match (&sasl.token_file, &sasl.token_endpoint) {
            (Some(path), None) => Source::File(path.clone()),
            (None, Some(url)) => {
                let endpoint = Endpoint::new(url, sasl)?;
                Source::Endpoint(Box::new(move |now_ms| endpoint.fetch(now_ms)))
            }
            _ => {
                let text = "security.sasl: OAUTHBEARER needs one of tokenFile and tokenEndpoint";
                return Err(Error::new(Class::Permanent, text));
            }
        };
        Ok(Some(Self::new(source, Arc::new(BootClock))))
    }

    fn new(source: Source, clock: Arc<dyn Clock>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Inner { source, clock, state, changed }))
    }

    /// A token that holds. Blocks the thread while it is got.
    pub(crate) fn current(&self) -> Result<Given, Error> {
        self.within(PATIENCE)
    }

    /// The same for who cannot wait for longer than that.
    fn within(&self, patience: Duration) -> Result<Given, Error> {
        match &self.0.source {
            Source::File(path) => self.read_or_kept(path),
            Source::Endpoint(_) => self.kept_or_new(patience),
        }
    }

    /// A broker has taken a token.
    pub(crate) fn note_taken(&self) {
        self.0.lock().taken = true;
    }

    /// A broker does not take a token: the next one who asks gets another. True when that one may be better: this one was kept
    /// for a while, or is in a file that had a good one, and will have again.
    pub(crate) fn drop_refused(&self, refused: &Given) -> bool {
        let mut state = self.0.lock();
        if state.token.as_ref() == Some(&refused.token) {
            state.token = None;
        }
        let in_good_file = matches!(self.0.source, Source::File(_)) && state.taken;
        !refused.is_new || in_good_file
    }

    /// A token in the words of librdkafka, which asks again after an error. Blocks the thread for a moment at most.
    pub(crate) fn for_library(&self) -> Result<OAuthToken, Error> {
        let Given { token, .. } = self.within(A_MOMENT)?;
        Ok(OAuthToken {
            token: token.value().to_owned(),
            principal_name: token.subject().to_owned(),
            lifetime_ms: i64::try_from(token.expires_ms()).unwrap_or(i64::MAX),
        })
    }

    /// The token that is in the file. Files are caught while they are replaced: once one had a token, what is wrong with it passes,
    /// and the token of before serves while it holds.
    fn read_or_kept(&self, path: &str) -> Result<Given, Error> {
        let now_ms = self.0.clock.unix_ms();
        let read = read_file(path, now_ms);
        let mut state = self.0.lock();
        let error = match read {
            Ok(token) => {
                state.token = Some(token.clone());
                state.had_token = true;
                return Ok(Given { token, is_new: true });
            }
            Err(error) if !state.had_token => return Err(error),
            Err(error) => of_class(Class::Transient, &error),
        };
        let kept = state.token.as_ref().filter(|token| token.holds(now_ms));
        let Some(token) = kept else { return Err(error) };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the bearer token that was read before goes on serving"
        );
        Ok(Given { token: token.clone(), is_new: false })
    }

    fn kept_or_new(&self, patience: Duration) -> Result<Given, Error> {
        let inner = &self.0;
        let mut state = inner.lock();
        let now_ms = inner.clock.unix_ms();
        if let Some(token) = state.token.as_ref().filter(|token| token.is_fresh(now_ms)) {
            return Ok(Given { token: token.clone(), is_new: false });
        }
        let old = state.token.clone().filter(|token| token.holds(now_ms));
        let old = old.map(|token| Given { token, is_new: false });
        if let Some(failure) = state.recent_failure(now_ms) {
            return old.ok_or(failure);
        }
        if !state.fetching {
            self.start_fetch(now_ms)?;
            state.fetching = true;
        }
        let before = state.fetched;
        let patience = if old.is_some() { A_MOMENT } else { patience };
        let waited =
            inner.changed.wait_timeout_while(state, patience, |state| state.fetched == before);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(token)) = (&state.failure, &state.token)
            && state.fetched != before
        {
            return Ok(Given { token: token.clone(), is_new: true });
        }
        let failure = || match &state.failure {
            Some((error, _)) => of_class(error.class(), error),
            None => Error::new(Class::Transient, "the token endpoint has not answered yet"),
        };
        old.ok_or_else(failure)
    }

    /// A thread of its own, because nobody here may wait for as long as an endpoint may take.
    fn start_fetch(&self, now_ms: u64) -> Result<(), Error> {
        let tokens = self.clone();
        let thread = std::thread::Builder::new().name("kafka-token".to_owned());
        let started = thread.spawn(move || {
            let mut under_way = UnderWay { inner: &tokens.0, outcome: None };
            if let Source::Endpoint(fetch) = &tokens.0.source {
                under_way.outcome = Some(fetch(now_ms));
            }
        });
        started.map(drop).map_err(|cause| {
            Error::new(Class::Transient, "failed to start a thread to ask for a token")
                .because(cause)
        })
    }
}

// === impl UnderWay ===

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let given_up = || Err(Error::new(Class::Transient, "the asking for a token was given up"));
        let outcome = self.outcome.take().unwrap_or_else(given_up);
        let mut state = self.inner.lock();
        state.fetching = false;
        state.fetched += 1;
        match outcome {
            Ok(token) => {
                state.failure = None;
                state.token = Some(token);
            }
            Err(error) => state.failure = Some((error, self.inner.clock.unix_ms())),
        }
        drop(state);
        self.inner.changed.notify_all();
    }
}

// === impl Inner, State ===

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn recent_failure(&self, now_ms: u64) -> Option<Error> {
        let (error, at) = self.failure.as_ref()?;
        // A clock that was set back is no reason to wait.
        let recent = now_ms.checked_sub(*at).is_some_and(|age| age < FAILURE_KEPT_MS);
        recent.then(|| of_class(error.class(), error))
    }
}

fn read_file(path: &str, now_ms: u64) -> Result<Token, Error> {
    let wrong =
        |text: String| Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused);
    let text = std::fs::read_to_string(path).map_err(|cause| {
        wrong(format!("security.sasl.tokenFile: failed to read {path}")).because(cause)
    })?;
    let token = Token::new(&text, None, now_ms).map_err(|cause| {
        wrong(format!("security.sasl.tokenFile: {path} holds no bearer token")).because(cause)
    })?;
    if !token.holds(now_ms) {
        let ago = now_ms.saturating_sub(token.expires_ms()) / 1000;
        return Err(wrong(format!(
            "security.sasl.tokenFile: the token in {path} expired {ago} s ago: \
             whoever writes the file must replace it in time"
        )));
    }
    Ok(token)
}

/// The same error for another one who asked, or of another class.
pub(crate) fn of_class(class: Class, error: &Error) -> Error {
    let copy = Error::new(class, error.to_string()).coded(error.code());
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    if causes.is_empty() { copy } else { copy.because(causes.join(": ")) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> tidegate_core::ids::Instant {
            tidegate_core::ids::Instant::since_boot(Duration::from_millis(self.unix_ms()))
        }

        fn unix_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    /// An endpoint that answers what the test sends, each for 1,000 ms of the clock.
    struct World {
        tokens: Tokens,
        clock: Arc<Hand>,
        answers: mpsc::Sender<Result<&'static str, Class>>,
    }

    fn world() -> World {
        let (answers, asked) = mpsc::channel();
        let asked = Mutex::new(asked);
        let fetch: Fetch = Box::new(move |now_ms| match asked.lock().unwrap().recv().unwrap() {
            Ok(text) => Ok(Token::new(text, Some(1_000), now_ms).unwrap()),
            Err(class) => Err(Error::new(class, "no token").because("a cause")),
        });
        let clock = Arc::new(Hand::default());
        let tokens = Tokens::new(Source::Endpoint(fetch), Arc::clone(&clock) as Arc<dyn Clock>);
        World { tokens, clock, answers }
    }

    impl World {
        fn at(&self, ms: u64) -> Result<String, Error> {
            self.clock.0.store(ms, Ordering::SeqCst);
            self.tokens.current().map(|given| given.token.value().to_owned())
        }
    }

    #[test]
    fn a_token_is_kept_while_it_is_fresh_and_then_replaced() {
        let world = world();
        world.answers.send(Ok("first")).unwrap();
        assert_eq!(world.at(0).unwrap(), "first");
        assert_eq!(world.at(749).unwrap(), "first");
        world.answers.send(Ok("second")).unwrap();
        assert_eq!(world.at(750).unwrap(), "second");
        assert_eq!(world.tokens.for_library().unwrap().lifetime_ms, 1_750);
    }

    #[test]
    fn an_old_token_that_holds_serves_while_there_is_no_new_one() {
        let world = world();
        world.answers.send(Ok("first")).unwrap();
        assert_eq!(world.at(0).unwrap(), "first");
        world.answers.send(Err(Class::Transient)).unwrap();
        assert_eq!(world.at(800).unwrap(), "first");
        // Nobody is asked again so soon: there is no answer to be had, and none is waited for.
        let error = world.at(1_000).unwrap_err();
        assert_eq!((error.class(), error.to_string().as_str()), (Class::Transient, "no token"));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "a cause");
        world.answers.send(Ok("second")).unwrap();
        assert_eq!(world.at(1_800).unwrap(), "second");
    }

    #[test]
    fn a_slow_endpoint_holds_up_nobody_for_long_whose_token_holds() {
        let world = world();
        world.answers.send(Ok("first")).unwrap();
        assert_eq!(world.at(0).unwrap(), "first");
        // No answer yet.
        assert_eq!(world.at(800).unwrap(), "first");
        world.answers.send(Ok("second")).unwrap();
        // It was fetched at 800.
        assert_eq!(world.at(1_000).unwrap(), "second");
    }

    #[test]
    fn librdkafka_is_not_held_up_by_an_endpoint_that_gives_it_no_first_token() {
        let world = world();
        let (tokens, (done, told)) = (world.tokens.clone(), mpsc::channel());
        let asker = std::thread::spawn(move || done.send(tokens.for_library().err().unwrap()));
        // Far from both: the thin layer would wait for fifteen seconds.
        let error = told.recv_timeout(PATIENCE / 2).expect("librdkafka is answered");
        asker.join().unwrap().unwrap();
        assert_eq!(error.class(), Class::Transient);
        // The fetch goes on, and serves who asks next.
        world.answers.send(Ok("first")).unwrap();
        assert_eq!(world.at(0).unwrap(), "first");
        assert_eq!(world.tokens.for_library().unwrap().token, "first");
    }

    #[test]
    fn a_fetch_that_panics_is_an_error_that_passes() {
        let world = world();
        // There is no answer for it to take.
        let World { tokens, clock, answers } = world;
        drop(answers);
        for at in [0, FAILURE_KEPT_MS] {
            clock.0.store(at, Ordering::SeqCst);
            let error = tokens.current().unwrap_err();
            assert_eq!(error.class(), Class::Transient);
            assert_eq!(error.to_string(), "the asking for a token was given up");
        }
        assert_eq!(tokens.0.lock().fetched, 2, "each asked anew");
    }

    #[test]
    fn a_refused_token_is_not_given_again_and_the_next_one_may_be_better_than_a_kept_one() {
        let world = world();
        world.answers.send(Ok("first")).unwrap();
        let new = world.tokens.current().unwrap();
        let kept = world.tokens.current().unwrap();
        assert!(world.tokens.drop_refused(&kept), "it may have been revoked");
        world.answers.send(Ok("second")).unwrap();
        assert_eq!(world.at(1).unwrap(), "second");
        assert!(!world.tokens.drop_refused(&new), "it was fetched to be refused");
        assert_eq!(world.at(2).unwrap(), "second", "another one was refused");
        world.tokens.note_taken();
        assert!(!world.tokens.drop_refused(&new), "endpoints are not files");
    }

    #[test]
    fn those_who_ask_at_once_share_one_answer() {
        let world = world();
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let tokens = world.tokens.clone();
                std::thread::spawn(move || {
                    tokens.current().map(|given| given.token.value().to_owned())
                })
            })
            .collect();
        world.answers.send(Ok("shared")).unwrap();
        for asker in askers {
            assert_eq!(asker.join().unwrap().unwrap(), "shared");
        }
    }

    /// A token file, and until when the tokens in it hold.
    struct File {
        folder: tidegate_testing::TempDir,
        clock: Arc<Hand>,
        tokens: Tokens,
    }

    impl File {
        fn new() -> Self {
            let folder = tidegate_testing::TempDir::new().unwrap();
            let clock = Arc::new(Hand::default());
            let source = Source::File(folder.path().join("token").to_str().unwrap().to_owned());
            let tokens = Tokens::new(source, Arc::clone(&clock) as Arc<dyn Clock>);
            Self { folder, clock, tokens }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.folder.path().join("token"), text).unwrap();
        }

        fn class(&self) -> Class {
            self.tokens.current().unwrap_err().class()
        }
    }

    #[test]
    fn a_token_file_that_is_just_being_replaced_stops_nobody() {
        let file = File::new();
        let token = |expires: u64| token::tests::jwt(&format!(r#"{{"exp":{expires}}}"#));
        for wrong in ["", "two words", &token(0)] {
            file.write(wrong);
            assert_eq!(file.class(), Class::Permanent, "{wrong}: there was never a token");
        }
        file.write(&token(100));
        assert!(file.tokens.current().unwrap().is_new);
        for wrong in ["", "two words", &token(0)] {
            file.write(wrong);
            let given = file.tokens.current().unwrap();
            assert_eq!((given.token.value(), given.is_new), (token(100).as_str(), false));
        }
        file.clock.0.store(100_000, Ordering::SeqCst);
        for wrong in ["", "two words", &token(0), &token(100)] {
            file.write(wrong);
            assert_eq!(file.class(), Class::Transient, "{wrong}: its writer is late");
        }
        file.write(&token(200));
        assert_eq!(file.tokens.current().unwrap().token.value(), token(200));
    }

    #[test]
    fn a_refused_token_of_a_file_passes_once_a_broker_took_one() {
        let file = File::new();
        file.write("whole");
        let first = file.tokens.current().unwrap();
        assert!(!file.tokens.drop_refused(&first), "a start with a wrong file");
        file.tokens.note_taken();
        file.write("hal");
        let half = file.tokens.current().unwrap();
        assert!(file.tokens.drop_refused(&half), "the rest of it may be on its way");
        file.write("");
        assert_eq!(file.class(), Class::Transient, "what was refused serves nobody");
    }

    #[test]
    fn a_token_file_is_read_each_time_and_an_expired_token_is_told() {
        let file = File::new();
        let File { tokens, clock, .. } = &file;
        let error = tokens.current().unwrap_err();
        assert!(error.to_string().contains("tokenFile: failed to read"), "{error}");
        file.write("no token: hunter2");
        let error = tokens.current().unwrap_err();
        assert!(error.to_string().contains("holds no bearer token"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let text = token::tests::jwt(r#"{"sub":"me","exp":100}"#);
        file.write(&format!("{text}\n"));
        assert_eq!(tokens.current().unwrap().token.value(), text);
        clock.0.store(103_000, Ordering::SeqCst);
        let error = tokens.current().unwrap_err();
        assert!(error.to_string().contains("expired 3 s ago"), "{error}");
        assert_eq!(error.code(), Some(Code::AuthenticationRefused));
    }
}
