//! One simulated node: what it holds, its faults, and the watch that feeds the workers of its pods.
//!
//! It talks to the API server as `system:node:NAME`, so the Node authorizer and NodeRestriction see a kubelet. A fault
//! cuts every call and the watch; a crash ends the pods as well.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::client::ClientBuilder;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event as ApiEvent, EventType, Recorder, Reporter};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::{BoxError, filter::FilterLayer};
use tracing::{debug, warn};

use crate::faults::NodeFault;
use crate::images::Images;
use crate::retry::WatchBackoff;
use crate::{Host, pod, registration};

/// How soon a fault of a node is seen.
const FAULT_POLL: Duration = Duration::from_millis(100);

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) index: u8,
    pub(crate) client: Client,
    pub(crate) host: Arc<Host>,
    pub(crate) images: Images,
    recorder: Recorder,
    addresses: Mutex<BTreeSet<String>>,
    /// Claims with access mode ReadWriteOncePod in use: uid of the claim to uid of the pod.
    exclusive_claims: Mutex<BTreeMap<String, String>>,
    fault: watch::Receiver<NodeFault>,
}

/// Runs the node until the process ends.
pub(crate) async fn run(config: Config, index: u8, host: Arc<Host>) -> Result<()> {
    let name = format!("pk-{index}");
    let (switch, fault) = watch::channel(host.faults.node(&name));
    let client = client_as_node(config, &name, fault.clone())?;
    let reporter = Reporter { controller: "kubelet".to_owned(), instance: Some(name.clone()) };
    let node = Arc::new(Node {
        recorder: Recorder::new(client.clone(), reporter),
        name,
        index,
        client,
        host,
        images: Images::default(),
        addresses: Mutex::default(),
        exclusive_claims: Mutex::default(),
        fault,
    });
    tokio::join!(poll_fault(&node, switch), live(&node));
    Ok(())
}

fn client_as_node(
    mut config: Config,
    name: &str,
    fault: watch::Receiver<NodeFault>,
) -> Result<Client> {
    config.auth_info.impersonate = Some(format!("system:node:{name}"));
    config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned()]);
    config.default_retry = false;
    config.read_timeout = None;
    let gate = FilterLayer::new(move |request| match *fault.borrow() {
        NodeFault::None => Ok(request),
        other => Err(BoxError::from(format!("simulated {other:?}"))),
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&gate).build())
}

async fn poll_fault(node: &Node, switch: watch::Sender<NodeFault>) {
    loop {
        let fault = node.host.faults.node(&node.name);
        let changed = switch.send_if_modified(|old| std::mem::replace(old, fault) != fault);
        if changed {
            warn!(node = node.name, ?fault, "fault");
        }
        sleep(FAULT_POLL).await;
    }
}

/// Healthy lives, one after each crash.
async fn live(node: &Arc<Node>) {
    loop {
        let mut workers = Workers::default();
        tokio::select! {
            () = registration::keep(node) => {}
            () = watch_pods(node, &mut workers) => {}
            () = node.until(|fault| fault == NodeFault::Crash) => {}
        }
        // Aborts the workers; each container dies with its worker.
        drop(workers);
        node.until(|fault| fault == NodeFault::None).await;
    }
}

// === impl Node ===

impl Node {
    pub(crate) async fn until(&self, mut wanted: impl FnMut(NodeFault) -> bool) {
        if self.fault.clone().wait_for(|fault| wanted(*fault)).await.is_err() {
            // The poll has ended, because the process does.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("{}.{}.254", self.host.network, self.octet(0))
    }

    /// The pod's address: the one it has since before this process started, or an unused one.
    pub(crate) fn take_address(&self, pod: &Pod) -> String {
        let mut used = self.addresses.lock().expect("no panic holds this lock");
        let known = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let unused = || {
            let all = (0..4000)
                .map(|n| format!("{}.{}.{}", self.host.network, self.octet(n / 250), n % 250 + 1));
            all.into_iter().find(|address| !used.contains(address))
        };
        let address = known.or_else(unused).expect("a node has fewer than 4000 pods");
        used.insert(address.clone());
        address
    }

    /// Gives a ReadWriteOncePod claim to the pod, unless another pod of this node has it.
    pub(crate) fn take_claim(&self, claim: &str, pod: &str) -> Result<()> {
        let mut held = self.exclusive_claims.lock().expect("no panic holds this lock");
        let holder = held.entry(claim.to_owned()).or_insert_with(|| pod.to_owned());
        ensure!(holder == pod, "the claim is ReadWriteOncePod and in use by pod {holder}");
        Ok(())
    }

    /// Forgets what the pod held.
    pub(crate) fn release(&self, pod: &str, address: &str) {
        self.addresses.lock().expect("no panic holds this lock").remove(address);
        let mut held = self.exclusive_claims.lock().expect("no panic holds this lock");
        held.retain(|_, holder| holder != pod);
    }

    /// Tells of the pod what `kubectl describe` shows. An event that gets lost is no failure.
    pub(crate) async fn tell(&self, pod: &Pod, reason: &str, note: String) {
        let is_normal = matches!(reason, "Pulling" | "Pulled" | "Started" | "Killing");
        let event = ApiEvent {
            type_: if is_normal { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name_any()),
            namespace: pod.namespace(),
            uid: pod.uid(),
            ..ObjectReference::default()
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            debug!("event {reason} of {}: {error}", pod.name_any());
        }
    }

    /// The third octet: each node has sixteen of them.
    fn octet(&self, n: u16) -> u16 {
        u16::from(self.index) * 16 + n
    }
}

/// Feeds the workers as long as the node is not crashed.
async fn watch_pods(node: &Arc<Node>, workers: &mut Workers) {
    loop {
        node.until(|fault| fault == NodeFault::None).await;
        tokio::select! {
            error = follow(node, workers) => warn!(node = node.name, "pod watch: {error}"),
            () = node.until(|fault| fault != NodeFault::None) => {}
        }
    }
}

/// Feeds the workers until the stream ends. A list that lacks a pod we run means that the deletion was missed during an
/// outage.
async fn follow(node: &Arc<Node>, workers: &mut Workers) -> anyhow::Error {
    let pods: Api<Pod> = Api::all(node.client.clone());
    let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", node.name));
    let mut events = pin!(watcher::watcher(pods, mine).backoff(WatchBackoff::default()));
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => listed.push(pod),
            Ok(Event::InitDone) => workers.replace(node, std::mem::take(&mut listed)),
            Ok(Event::Apply(pod)) => workers.update(node, pod),
            Ok(Event::Delete(pod)) => workers.gone(&pod.uid().unwrap_or_default()),
            Err(error) => warn!(node = node.name, "pod watch: {error}"),
        }
    }
    anyhow!("the stream ended")
}

/// The workers by uid of their pod. Dropping this aborts them all.
#[derive(Default)]
struct Workers {
    tasks: JoinSet<()>,
    pods: BTreeMap<String, watch::Sender<Option<Pod>>>,
}

// === impl Workers ===

impl Workers {
    fn update(&mut self, node: &Arc<Node>, pod: Pod) {
        while self.tasks.try_join_next().is_some() {}
        let uid = pod.uid().unwrap_or_default();
        if let Some(worker) = self.pods.get(&uid) {
            worker.send_replace(Some(pod));
            return;
        }
        let address = node.take_address(&pod);
        let (sender, receiver) = watch::channel(Some(pod.clone()));
        self.pods.insert(uid, sender);
        self.tasks.spawn(pod::run(Arc::clone(node), pod, address, receiver));
    }

    fn gone(&mut self, uid: &str) {
        if let Some(worker) = self.pods.remove(uid) {
            worker.send_replace(None);
        }
    }

    /// Takes a complete list; pods that have an address come first so that nobody else gets it.
    fn replace(&mut self, node: &Arc<Node>, mut listed: Vec<Pod>) {
        let uids: BTreeSet<String> = listed.iter().filter_map(Pod::uid).collect();
        let missing: Vec<String> =
            self.pods.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in missing {
            self.gone(&uid);
        }
        listed.sort_by_key(|pod| pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()));
        for pod in listed {
            self.update(node, pod);
        }
    }
}
