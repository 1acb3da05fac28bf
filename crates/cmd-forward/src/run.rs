//! From the plan to running tunnels, and to their orderly end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ops_core::{
    Choice, Context,
    guard::{WorkLine, words_line},
};
use ops_profile::Instance;
use ops_ui::{Error, ErrorKind, Exit, Format, Hint, Result, Text, hint, text::named};
use tokio_util::sync::CancellationToken;

use crate::background;
use crate::child;
use crate::control::{self, ControlAnswer, ControlRequest, Owner, Socket};
use crate::local::Listener;
use crate::meter;
use crate::plan::Forward;
use crate::pool::{Limits, Pool, PoolState};
use crate::screen::Screen;
use crate::socks::Proxy;
use crate::spec::{LocalAddress, RemoteAddress};
use crate::status::{self, ForwardRow};
use crate::tunnel::{Route, Tunnel};

/// Between drawings of the status line.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// How long open connections may take to end before anything is said of them.
const TELL_OF_GRACE: Duration = Duration::from_millis(400);

/// How the tunnels are run.
pub(crate) struct RunOptions {
    pub(crate) choice: Choice,
    pub(crate) reason: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) grace: Duration,
    /// A SOCKS destination without connections is left after this time.
    pub(crate) idle: Duration,
    /// One that cannot start keeps the others from starting.
    pub(crate) together: bool,
    pub(crate) command: Vec<OsString>,
    /// In the background: tell the starter, not the user.
    pub(crate) owner: bool,
}

/// Everything that runs.
struct Running {
    tunnels: Vec<Arc<Tunnel>>,
    grace: Duration,
    /// Nothing is left to run.
    over: CancellationToken,
}

/// Runs the forwards of `plan` until they are stopped.
///
/// # Errors
/// What keeps them from starting; afterwards only an interruption.
pub(crate) async fn run(cx: &Context, plan: Vec<Forward>, wishes: RunOptions) -> Result<Exit> {
    let live = wishes.command.is_empty() && !wishes.owner;
    let mut screen = Screen::new(cx.output(), live);
    if !wishes.command.is_empty() {
        screen = screen.lent();
    }
    let mut failed = Failed::new(wishes.together);
    // Before anything is asked of AWS: a port that is taken is told at once.
    let mut listening = Vec::new();
    for forward in plan {
        warn_if_open(&screen, &forward);
        let folder = control::folder(cx);
        let is_ours = |process| control::socket_path(&folder, process).exists();
        let bound = Listener::bind(&forward.local, &again(&forward), is_ours).await;
        if let Some(bound) = failed.unless(&forward, bound)? {
            listening.push((forward, bound));
        }
    }
    let (plan, listeners): (Vec<_>, Vec<_>) = listening.into_iter().unzip();
    let instances = resolve(cx, &plan, &wishes, &mut failed).await?;
    let handler = cx.interrupt().handle();
    let (routes, pools) = routes(cx, &screen, &plan, &instances, &wishes);
    let started = tokio::select! {
        started = start_all(&pools) => started,
        error = handler.wait() => Err(error),
    };
    let unstarted = match started {
        Ok(unstarted) => unstarted,
        Err(error) => {
            close_all(&pools).await;
            return Err(error);
        }
    };

    let over = CancellationToken::new();
    let mut tunnels = Vec::new();
    let mut serving = Vec::new();
    for (((forward, (listener, bound)), route), instance) in
        plan.iter().zip(listeners).zip(routes).zip(&instances)
    {
        let (Some(route), Some(instance)) = (route, instance) else {
            continue;
        };
        let failure = match &route {
            Route::Fixed(pool) => unstarted
                .iter()
                .position(|(failed, _)| Arc::ptr_eq(failed, pool)),
            Route::Socks(_) => None,
        };
        if let Some(at) = failure {
            // Several forwards may share it: each is named.
            let error = unstarted[at].1.clone();
            if let Err(error) = failed.unless::<()>(forward, Err(error)) {
                close_all(&pools).await;
                return Err(error);
            }
            continue;
        }
        let tunnel = Arc::new(Tunnel::new(
            forward,
            instance.label().to_owned(),
            bound,
            route,
        ));
        serving.push((tunnel.clone(), listener));
        tunnels.push(tunnel);
    }
    if tunnels.is_empty() {
        close_all(&pools).await;
        return Err(failed.into_error());
    }
    if !wishes.owner {
        for line in &failed.told {
            screen.warn(line.clone());
        }
    }
    let running = Arc::new(Running {
        tunnels,
        grace: wishes.grace,
        over: over.clone(),
    });
    for (tunnel, listener) in serving {
        tokio::spawn(tunnel.serve(listener, screen.clone()));
    }
    // Without the socket everything works but --status and --stop. It goes last: whoever waits for
    // its end finds nothing left.
    let socket = Socket::bind(cx)
        .inspect_err(|error| screen.detail(format!("--status will not show this: {error}")))
        .ok();
    let result = serve(
        cx,
        &screen,
        &running,
        &handler,
        &wishes,
        socket.as_ref(),
        failed.told,
    )
    .await;
    screen.draw("");
    let mut stopped = std::pin::pin!(running.stop(|_| true));
    // A command that has just ended has closed its connections, and the tunnel hears of that in a
    // moment: nobody needs to know of a grace that nobody uses.
    if tokio::time::timeout(TELL_OF_GRACE, &mut stopped)
        .await
        .is_err()
    {
        if !running.grace.is_zero() {
            let open = match running.connections() {
                1 => "1 open connection has".to_owned(),
                open => format!("{open} open connections have"),
            };
            screen.note(format!(
                "no new connections; {open} {:?} to end",
                running.grace
            ));
        }
        stopped.await;
    }
    close_all(&pools).await;
    for tunnel in &running.tunnels {
        if let Route::Socks(proxy) = &tunnel.route {
            proxy.close().await;
        }
    }
    result
}

/// From the ready line to the reason to end.
async fn serve(
    cx: &Context,
    screen: &Screen,
    running: &Arc<Running>,
    handler: &ops_ui::interrupt::Handler,
    wishes: &RunOptions,
    socket: Option<&Socket>,
    failed: Vec<String>,
) -> Result<Exit> {
    let rows: Vec<ForwardRow> = running.tunnels.iter().map(|t| ForwardRow::of(t)).collect();
    if wishes.owner {
        background::tell_ready(cx, rows, failed)?;
    } else if let (Format::Json | Format::Yaml, true) =
        (cx.output().format(), wishes.command.is_empty())
    {
        let document = status::StatusDocument::new(&rows);
        match cx.output().format() {
            Format::Yaml => cx.output().yaml(&document)?,
            _ => cx.output().json(&document)?,
        }
    } else {
        for line in child::described(&rows) {
            screen.note(line);
        }
    }
    let control = async {
        match socket {
            Some(socket) => socket.serve(running.clone()).await,
            None => std::future::pending().await,
        }
    };
    let end = async {
        if wishes.command.is_empty() {
            tokio::select! {
                error = handler.wait() => Err(error),
                () = running.over.cancelled() => Ok(Exit::SUCCESS),
            }
        } else {
            run_command(cx, running, handler, wishes).await
        }
    };
    tokio::select! {
        result = end => result,
        () = control => Ok(Exit::SUCCESS),
        () = draw(screen, running) => Ok(Exit::SUCCESS),
    }
}

async fn run_command(
    cx: &Context,
    running: &Running,
    handler: &ops_ui::interrupt::Handler,
    wishes: &RunOptions,
) -> Result<Exit> {
    let places = child::places(&running.tunnels);
    let mut command = child::start(cx, &wishes.command, &places)?;
    let status = tokio::select! {
        status = command.wait() => status?,
        error = handler.wait() => {
            // Ctrl-C reaches the command through the terminal; a signal to us alone is passed on.
            if error.kind() == ErrorKind::Terminated
                && let Some(pid) = command
                    .id()
                    .and_then(|id| i32::try_from(id).ok())
                    .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            command.wait().await?
        }
    };
    Ok(child::exit_of(status))
}

/// The status line of a terminal.
async fn draw(screen: &Screen, running: &Running) {
    if !screen.is_live() {
        return std::future::pending().await;
    }
    let mut tick = tokio::time::interval(DRAW_EVERY);
    loop {
        tick.tick().await;
        let (mut connections, mut down, mut up, mut sessions) = (0, 0, 0, 0);
        let mut worst = PoolState::Up;
        for tunnel in &running.tunnels {
            let row = ForwardRow::of(tunnel);
            connections += row.connections;
            down += row.rate_down;
            up += row.rate_up;
            sessions += row.sessions;
            let state = tunnel.state();
            if state != PoolState::Up && state != PoolState::Idle {
                worst = state;
            }
        }
        let s = |n: usize| if n == 1 { "" } else { "s" };
        screen.draw(&format!(
            "{connections} connection{}  ↓ {}/s  ↑ {}/s  {} ({sessions} session{})",
            s(connections),
            meter::bytes(down),
            meter::bytes(up),
            worst.as_str(),
            s(sessions),
        ));
    }
}

impl Running {
    /// Open connections.
    fn connections(&self) -> usize {
        let counts = self.tunnels.iter().map(|tunnel| &tunnel.counters.open);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn is_stopped(&self) -> bool {
        self.tunnels.iter().all(|tunnel| tunnel.stop.is_cancelled())
    }

    /// Stops the tunnels that `which` means: no new connections, a moment for the open ones.
    async fn stop(&self, which: impl Fn(&Tunnel) -> bool) -> Vec<ForwardRow> {
        let meant: Vec<_> = self
            .tunnels
            .iter()
            .filter(|tunnel| !tunnel.stop.is_cancelled() && which(tunnel))
            .cloned()
            .collect();
        for tunnel in &meant {
            tunnel.stop.cancel();
            tunnel.tasks.close();
        }
        let all = async {
            for tunnel in &meant {
                tunnel.tasks.wait().await;
            }
        };
        if tokio::time::timeout(self.grace, all).await.is_err() {
            for tunnel in &meant {
                tunnel.cut.cancel();
                tunnel.tasks.wait().await;
            }
        }
        meant.iter().map(|tunnel| ForwardRow::of(tunnel)).collect()
    }
}

impl Owner for Running {
    async fn answer(&self, request: ControlRequest) -> ControlAnswer {
        let forwards = match request {
            ControlRequest::Status => self
                .tunnels
                .iter()
                .filter(|tunnel| !tunnel.stop.is_cancelled())
                .map(|tunnel| ForwardRow::of(tunnel))
                .collect(),
            ControlRequest::Stop(name) => self.stop(|tunnel| status::is_meant(&name, tunnel)).await,
        };
        ControlAnswer {
            forwards,
            ends: self.is_stopped(),
        }
    }

    fn answered(&self) {
        if self.is_stopped() {
            self.over.cancel();
        }
    }
}

fn warn_if_open(screen: &Screen, forward: &Forward) {
    if forward.local.is_open_to_others() {
        screen.warn(format!(
            "{} is open to everybody who can reach this machine",
            forward.local
        ));
    }
}

/// A command line for the same with a free local port.
fn again(forward: &Forward) -> Hint {
    let target = forward.target.as_str();
    match (&forward.remote, &forward.local) {
        (Some(remote), LocalAddress::Tcp { bind: None, .. } | LocalAddress::Unix(_)) => {
            hint!("ops forward {} {}", target, format!("0:{remote}"))
        }
        (
            Some(remote),
            LocalAddress::Tcp {
                bind: Some(bind), ..
            },
        ) => {
            let host = remote.host.as_deref().unwrap_or("localhost");
            let to = crate::local::join(host, remote.port);
            hint!(
                "ops forward {} {}",
                target,
                format!("{}:{to}", crate::local::join(bind, 0))
            )
        }
        (None, _) => hint!("ops forward {} -D 0", target),
    }
}

/// Forwards that cannot start, beside others that do.
struct Failed {
    together: bool,
    /// A line for each, in the order of the plan.
    told: Vec<String>,
    last: Option<Error>,
}

impl Failed {
    fn new(together: bool) -> Self {
        Self {
            together,
            told: Vec::new(),
            last: None,
        }
    }

    /// The result of a step of `forward`; `None` where it has failed and the others go on.
    ///
    /// # Errors
    /// The failure itself where all start together or none, and where it concerns the others as
    /// well.
    fn unless<T>(&mut self, forward: &Forward, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        let is_its_own = matches!(
            error.kind(),
            ErrorKind::Usage
                | ErrorKind::NotFound
                | ErrorKind::Ambiguous
                | ErrorKind::Unreachable
                | ErrorKind::Denied
                | ErrorKind::Unexpected
                | ErrorKind::Timeout
        );
        if self.together || !is_its_own {
            return Err(error);
        }
        let name = forward.name.clone().unwrap_or_else(|| {
            let remote = forward.remote.as_ref().map(|remote| format!(":{remote}"));
            format!("{}{}", forward.local, remote.unwrap_or_default())
        });
        self.told.push(format!("{name} does not start: {error}"));
        self.last = Some(error);
        Ok(None)
    }

    /// What to end with where none is left.
    fn into_error(self) -> Error {
        let last = self
            .last
            .unwrap_or_else(|| Error::usage("there is nothing to forward"));
        self.told
            .iter()
            .fold(
                Error::new(last.kind(), "no forward could start"),
                Error::caused_by,
            )
            .hinted_as(&last)
    }
}

/// The instance of each forward, in the same order, `None` for one that has failed; the guard is
/// asked once for all.
async fn resolve(
    cx: &Context,
    plan: &[Forward],
    wishes: &RunOptions,
    failed: &mut Failed,
) -> Result<Vec<Option<Instance>>> {
    let mut known: HashMap<String, Option<Instance>> = HashMap::new();
    let mut instances: Vec<Option<Instance>> = Vec::new();
    for forward in plan {
        let text = forward.target.as_str();
        // One that is not found is named with each of its forwards.
        if known.get(text).is_none_or(Option::is_none) {
            let resolved = cx.resolve(&forward.target, wishes.choice).await;
            let resolved = resolved.map_err(|error| {
                let is_name = cx.profile().is_ok_and(|p| p.forwards.contains_key(text));
                match error.kind() {
                    ErrorKind::NotFound if is_name && forward.name.is_none() => error.hint(hint!(
                        "{} is the name of a forward, which takes no SPEC: ops forward {}",
                        named(text),
                        text
                    )),
                    _ => error,
                }
            });
            let instance = failed.unless(forward, resolved)?;
            known.insert(text.to_owned(), instance);
        }
        instances.push(known[text].clone());
    }
    let mut distinct: Vec<Instance> = Vec::new();
    for instance in instances.iter().flatten() {
        if distinct.iter().all(|seen| seen.id != instance.id) {
            distinct.push(instance.clone());
        }
    }
    let work = planned_work(plan, &wishes.command);
    cx.guard_work("forward", &distinct, wishes.reason.as_deref(), &work)
        .await?;
    Ok(instances)
}

/// What is opened here and where it leads, and what is run beside it, for whoever has to confirm
/// that.
fn planned_work(plan: &[Forward], command: &[OsString]) -> Vec<WorkLine> {
    let forwards = plan.iter().map(|forward| {
        let to = match &forward.remote {
            Some(remote) => remote.to_string(),
            None => "wherever its SOCKS clients ask for".to_owned(),
        };
        // Port 0 is whichever is free when it comes to that.
        let from = match &forward.local {
            LocalAddress::Tcp {
                bind: None,
                port: 0,
            } => "a free port".to_owned(),
            local => local.to_string(),
        };
        let through = forward.target.as_str();
        (
            "forward:",
            Text::from(format!("{from} → {to} through {through}")),
        )
    });
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let words = Hint::command(words.iter().map(AsRef::as_ref));
    let beside = (!command.is_empty()).then(|| words_line("command:", &words));
    forwards.chain(beside).collect()
}

/// Where each forward leads that has an instance; what leads to the same destination shares its
/// sessions.
fn routes(
    cx: &Context,
    screen: &Screen,
    plan: &[Forward],
    instances: &[Option<Instance>],
    wishes: &RunOptions,
) -> (Vec<Option<Route>>, Vec<Arc<Pool>>) {
    let mut pools: HashMap<(String, RemoteAddress), Arc<Pool>> = HashMap::new();
    let routes = plan
        .iter()
        .zip(instances)
        .map(|(forward, instance)| Some((forward, instance.as_ref()?)))
        .map(|both| {
            both.map(|(forward, instance)| match &forward.remote {
                None => Route::Socks(Proxy::new(
                    cx,
                    screen,
                    instance.clone(),
                    wishes.reason.clone(),
                    Limits {
                        spare: false,
                        ..wishes.limits
                    },
                    wishes.idle,
                )),
                Some(remote) => Route::Fixed(
                    pools
                        .entry((instance.id.clone(), remote.clone()))
                        .or_insert_with(|| {
                            Pool::new(
                                cx,
                                screen,
                                instance.clone(),
                                remote.clone(),
                                wishes.reason.clone(),
                                wishes.limits,
                                None,
                            )
                        })
                        .clone(),
                ),
            })
        })
        .collect();
    (routes, pools.into_values().collect())
}

/// The first session of each pool, side by side; gives those that could not start.
async fn start_all(pools: &[Arc<Pool>]) -> Result<Vec<(Arc<Pool>, Error)>> {
    let mut starting = tokio::task::JoinSet::new();
    for pool in pools {
        let pool = pool.clone();
        starting.spawn(async move { (pool.start().await, pool) });
    }
    let mut unstarted = Vec::new();
    while let Some(started) = starting.join_next().await {
        let (started, pool) = started.map_err(|error| Error::unexpected(error.to_string()))?;
        if let Err(error) = started {
            unstarted.push((pool, error));
        }
    }
    Ok(unstarted)
}

async fn close_all(pools: &[Arc<Pool>]) {
    let mut closing = tokio::task::JoinSet::new();
    for pool in pools {
        let pool = pool.clone();
        closing.spawn(async move { pool.close().await });
    }
    closing.join_all().await;
}

/// Says and asks whatever has to be, so that the process in the background need not: which
/// instance, the guard, credentials.
pub(crate) async fn ask_beforehand(
    cx: &Context,
    plan: &[Forward],
    wishes: &RunOptions,
) -> Result<()> {
    let screen = Screen::new(cx.output(), false);
    for forward in plan {
        warn_if_open(&screen, forward);
    }
    let mut failed = Failed::new(wishes.together);
    // The owner tells which of several fail; where none is left, there is no use in starting one.
    let found = resolve(cx, plan, wishes, &mut failed).await?;
    if found.iter().all(Option::is_none) {
        return Err(failed.into_error());
    }
    Ok(())
}
