//! `tidegate demo`: the whole system on one machine, and a verdict on it.
//!
//! ```text
//! stage       broker (embedded or given), topics, specification, folders
//!   ├─ monitor, controller       tasks of this process
//!   ├─ consumers                 processes of their own, started by the controller
//!   ├─ load                      records that say who they are
//!   └─ observer                  reads the ledger and the rates like anybody could
//! audit       reads the sink back and compares it with what was acknowledged to the producer
//! ```
//!
//! It begins with one consumer that owns everything and no load, so that every run shows how a group grows. At the end
//! the load is stopped first; when the ledger shows that all of it is durable, the consumers end in order; then the sink
//! is audited. Nothing that a process counted goes into the verdict.

mod cast;
mod files;
mod live;
mod observed;
mod observer;
mod pages;
mod setting;
mod stage;
mod summary;
mod workers;

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_load::audit::audit;

use self::cast::{Cast, Recording};
use self::files::Folder;
use self::live::Screen;
use self::setting::Setting;
use self::stage::Stage;
use self::summary::Summary;
use crate::args::DemoArgs;
use crate::failure::Exit;
use crate::output::Output;
use crate::signals::Signals;
use crate::wiring;

/// How long the first consumer may take to own everything: topics are made, a process starts, the ledger begins.
const BEGIN_DEADLINE: Duration = Duration::from_secs(90);

/// For how long the ledger may stand still at the end before what is missing is called lost. A consumer that was killed
/// last is fenced and replaced in less.
const STANDSTILL: Duration = Duration::from_secs(45);

/// Runs the demo.
pub(crate) async fn run(
    args: DemoArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let folder = Folder::new(args.keep.as_deref())?;
    let setting = Setting::new(args, &folder)?;
    let stage = Stage::build(&setting, &folder).await?;
    output.say(&setting.opening(&stage.broker_name()));
    let mut cast = Cast::default();
    let performed = perform(&mut cast, &setting, &stage, output, &mut signals).await;
    // What was begun is taken down in either case, before anything is judged.
    let ended = cast.end().await;
    let verdict = match performed.and_then(|recording| ended.map(|()| recording)) {
        Ok(recording) => judge(&setting, &stage, &folder, recording, output).await,
        Err(error) => Err(error),
    };
    stage.strike(&setting).await;
    verdict.map_err(|error| error.context(folder.epilogue()))
}

/// Everything up to the moment when all records are durable.
async fn perform(
    cast: &mut Cast,
    setting: &Setting,
    stage: &Stage,
    output: &Output,
    signals: &mut Signals,
) -> anyhow::Result<Recording> {
    let mut screen = Screen::new(output, setting);
    cast.enter(setting, stage).await?;
    cast.wait_for_owner(setting, BEGIN_DEADLINE, signals).await?;
    let mut recording = cast.play(setting, stage, &mut screen, signals).await?;
    cast.wait_until_durable(stage, &mut recording, &mut screen, STANDSTILL, signals).await?;
    Ok(recording)
}

/// Audits the sink, writes the report, and prints the summary.
async fn judge(
    setting: &Setting,
    stage: &Stage,
    folder: &Folder,
    recording: Recording,
    output: &Output,
) -> anyhow::Result<Exit> {
    let reader = tidegate_sinks::open_reader(&folder.sink_url(), wiring::clock()).await?;
    let report = audit(&reader, &recording.acknowledged).await?;
    let summary = Summary::new(setting, stage, &recording, &report);
    let mut text = summary.text(&report);
    if let Some(directory) = &setting.args.report {
        pages::write(directory, setting, stage, &recording, &report, &summary)?;
        writeln!(text, "\nReport: {}/index.html", directory.display())?;
    }
    if let Some(kept) = folder.kept() {
        writeln!(text, "Kept: {}", kept.display())?;
    }
    output.result(&text, &summary)?;
    Ok(if summary.is_good(&report) { Exit::Done } else { Exit::Failed })
}
