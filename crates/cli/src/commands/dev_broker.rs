//! `tidegate dev-broker`: the embedded broker alone, for trying out and for tests.

use serde::Serialize;
use tidegate_devbroker::{DevBroker, Options};

use super::processes;
use crate::args::DevBrokerArgs;
use crate::failure::Exit;
use crate::output::Output;
use crate::signals::Signals;

/// What a program that starts a broker wants to know.
#[derive(Serialize)]
struct Started {
    bootstrap: String,
    keeps: &'static str,
}

pub(super) async fn run(
    args: &DevBrokerArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let options = Options {
        nodes: args.nodes,
        port: args.port,
        auto_create_topics: true,
        ..Options::default()
    };
    let broker = DevBroker::start(options).await?;
    let bootstrap = broker.bootstrap();
    let text = format!(
        "A development broker listens on {bootstrap}.\n\
         It keeps nothing: topics, records and offsets live in its memory and end with it. Ctrl-C ends it."
    );
    output.result(&text, &Started { bootstrap, keeps: "nothing" })?;
    tokio::select! {
        () = signals.next() => {}
        () = processes::orphaned(args.parent) => {}
    }
    broker.stop().await;
    Ok(Exit::Done)
}
