//! The command.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use ops_core::{
    Command, Context, Forms, Traits, Values, connect::Urgency, inventory::TagFilter,
    resolve::SessionArgs,
};
use ops_profile::{ExecVia, InstanceState, Target};
use ops_remote::exec::Request;
use ops_ui::{Error, Exit, Result, fill::fill_lines, globals::parse_time_limit};

use crate::{
    hosts::{Host, Hosts, Selection, pick_targets, read_targets},
    input, many, on_terminal,
    options::{self, ManyArgs},
    planned::{PlannedRun, Way},
    request::{CommandSource, document_parameters, variables},
    rollout::RolloutPlan,
    run_command::{self, FleetRequest, Order},
    show::{API_VERSION, Form},
    single, words,
};

/// Run a command on one server or on many
///
/// Runs the command through Session Manager, without a terminal: no SSH server, no key, no open
/// port. Its arguments arrive as they are, its output and error output come apart and byte for
/// byte, and its exit status becomes that of ops: 128 and the number of a signal for one that was
/// killed, 124 for --time-limit, 255 for a failure of ops itself, with one line that begins with
/// `ops: OPS-E-`.
///
/// Without `--` there is one TARGET, and from the next word that is no option of ops on, everything
/// is the command. With it all words before it are targets. Where a target can mean several (a
/// glob, tag:, --tag, two targets), the command runs on all of them side by side, each line of
/// output behind the name of its server, and the exit status is 0 if it succeeded everywhere and 8
/// otherwise.
///
/// Standard input is sent to the command unless it is a terminal (then with -i), `/dev/null` or
/// empty. In a loop that reads its lines from standard input, give -n. Ctrl-C reaches the command;
/// a second one ends at once, and with it what runs there.
///
/// Its variables, its folder and its input are in no command line there and in no request to AWS.
/// The command is in the list of processes there, as any, and unless it is long or has variables or
/// a folder IN THE REQUEST THAT STARTS ITS SESSION, WHICH CLOUDTRAIL MAY KEEP. Where the account
/// logs sessions to S3 or CloudWatch, WHAT A COMMAND PRINTS IS IN THAT LOG. `--env NAME` takes a
/// value from the environment here; `--env NAME=VALUE` shows it to whoever can list the processes
/// of this computer.
///
/// With --via run-command the service itself sends the command to all servers and goes on when
/// nobody looks: see `ops runs`. It runs as root, has no input and no terminal, and cuts long
/// output. THE COMMAND AND ITS VARIABLES ARE IN THE ACCOUNT'S HISTORY FOR 30 DAYS, with the
/// beginning of what it prints, for everybody who may list commands.
///
/// On Windows servers (UNTRIED: written from the documentation) --shell is a line of PowerShell, a
/// command ends with its session, a signal ends the PowerShell that runs it and perhaps not what
/// that has started, and there is no input, -t, --user, --env, --script or --detach.
#[derive(clap::Args, Debug)]
pub struct Exec {
    /// Name, id, glob, tag:Key=Value, IP; USER@ runs it as that user
    #[arg(value_name = "TARGET")]
    targets: Vec<Target>,
    /// Command and its arguments; with --script those of the script
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Run a line of sh in place of a command
    #[arg(long, value_name = "LINE", conflicts_with = "script")]
    shell: Option<OsString>,
    /// Script from here to run there; arguments behind --
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    script: Option<PathBuf>,
    /// Run it on a terminal, for programs that need one
    #[arg(short, long, conflicts_with_all = ["no_stdin", "detach"])]
    tty: bool,
    /// Send what is typed on this terminal to the command
    #[arg(short, long, hide_short_help = true)]
    interactive: bool,
    /// Give the command no standard input
    #[arg(short, long, conflicts_with = "interactive")]
    no_stdin: bool,
    /// Run it as this user, with passwordless sudo
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Folder to run it in
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    cwd: Option<String>,
    /// Variable of its environment: NAME is taken from here, NAME=VALUE is seen in the list of
    /// processes here
    #[arg(long, value_name = "NAME[=VALUE]", hide_short_help = true)]
    env: Vec<OsString>,
    /// File with lines NAME=VALUE
    #[arg(long, value_name = "FILE", hide_short_help = true, value_hint = clap::ValueHint::FilePath)]
    env_file: Vec<PathBuf>,
    /// End the command there after this time, with status 124: 30s, 5m
    #[arg(long, value_name = "TIME", hide_short_help = true, value_parser = parse_time_limit, allow_negative_numbers = true)]
    time_limit: Option<Duration>,
    /// Leave it running there; prints its process id and the file with its output, by Run Command
    /// the id for `ops runs`
    #[arg(long, hide_short_help = true, conflicts_with = "interactive")]
    detach: bool,
    /// Session document for commands, in place of AWS-StartNonInteractiveCommand; by Run Command
    /// a command document
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    document: Option<String>,
    /// Say which servers would run what, and in which order
    #[arg(long, hide_short_help = true)]
    dry_run: bool,
    /// All servers with this tag; Key!=GLOB: without it
    #[arg(short = 'l', long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<TagFilter>,
    /// All servers that are members of this resource group
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    resource_group: Option<String>,
    /// File with a target on each line; - is standard input
    #[arg(long, value_name = "FILE", hide_short_help = true, value_hint = clap::ValueHint::FilePath)]
    targets_from: Option<PathBuf>,
    /// Text for the history of Run Command
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    comment: Option<String>,
    /// Parameter of the --document of Run Command; may be repeated
    #[arg(long, value_name = "NAME=VALUE", hide_short_help = true)]
    parameters: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    many: ManyArgs,
}

impl Command for Exec {
    const NAME: &'static str = "exec";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "ops exec db-1 -- pg_dump app > app.sql",
            "its output, and its status",
        ),
        (
            "ops exec 'web-*' -- systemctl is-active nginx",
            "on all of them, side by side",
        ),
        (
            "cat dump.sql | ops exec db-1 -- psql app",
            "its input from here",
        ),
        (
            "ops exec web-1 --shell 'ps aux | grep nginx'",
            "a line of sh",
        ),
        ("ops exec -it web-1 -- htop", "on a terminal"),
        (
            "ops exec --tag Role=web --canary 1 --batch 25% --script ./fix.sh -- --all",
            "a script in batches, behind one that has to succeed",
        ),
        (
            "ops exec --tag Role=web --via run-command -- systemctl restart app",
            "by Run Command, as root",
        ),
        (
            "ops exec 'web-*' -o json -- uname -r | jq -r '.items[].stdout'",
            "an object for each server",
        ),
    ];
    const TRAITS: Traits = Traits {
        pass_through: true,
        runs_a_command: true,
        forms: Forms::WithJsonl,
        ..Traits::NONE
    };
    const COMPLETES: &'static [(&'static str, Values)] =
        &[("targets", Values::Target), ("tags", Values::TagFilter)];

    fn arrange(args: Vec<OsString>, clap: &clap::Command) -> Vec<OsString> {
        words::arrange(args, clap)
    }

    async fn run(self, cx: Context) -> Result<Exit> {
        let spoken = self.spoken();
        let form = options::form(&cx, Self::NAME)?;
        if self.many.asks_for_run_command(&cx)? {
            self.check_for_run_command(&cx)?;
            return Box::pin(self.by_run_command(&cx, &spoken, form, None)).await;
        }
        self.check_for_sessions()?;
        // What is wrong with the command is told before anything is asked of AWS.
        let mut request = self.request(&cx, &spoken)?;
        let hosts = self.hosts(&cx).await?;
        if !hosts.are_many
            && let Some(option) = self.many.for_many_alone()
        {
            return Err(Error::usage(format!("{option} is for several servers"))
                .hint("leave it out; a glob means several even where it finds one"));
        }
        if self.tty {
            self.check_terminal(&hosts, form.is_some())?;
        }
        let fits_run_command = !self.tty && !request.stdin;
        if fits_run_command && self.many.way(&cx, hosts.all.len())? == ExecVia::RunCommand {
            let hosts = Some(hosts);
            return Box::pin(self.by_run_command(&cx, &spoken, form, hosts)).await;
        }
        let manner = self.many.manner(&cx, hosts.all.len(), form)?;
        if self.dry_run {
            return show_plan(&cx, &hosts, &manner.plan, &spoken, form);
        }
        let instances: Vec<_> = hosts.all.iter().map(|host| host.instance.clone()).collect();
        let variables = request.env.iter().map(|(name, _)| name.clone()).collect();
        let work = self
            .planned(&spoken, variables, Way::Sessions)
            .lines(&hosts.all);
        let reason = self.session.reason.as_deref();
        cx.guard_work(Self::NAME, &instances, reason, &work).await?;
        if hosts.all.len() > 1 {
            request.urgency = Urgency::Bulk;
        }
        match hosts.all.as_slice() {
            [only] if self.tty => {
                request.user.clone_from(&only.user);
                on_terminal::run(&cx, only, request, self.time_limit).await
            }
            [only] if !hosts.are_many && form.is_none() => {
                request.user.clone_from(&only.user);
                single::run(&cx, only, request).await
            }
            [_] if !hosts.are_many => {
                // A document of one server: the status stays the command's.
                let manner = many::RunOptions {
                    pass_status: true,
                    ..manner
                };
                many::run(&cx, hosts.all, request, manner).await
            }
            _ => many::run(&cx, hosts.all, request, manner).await,
        }
    }
}

impl Exec {
    fn spoken(&self) -> CommandSource {
        CommandSource {
            line: self.shell.clone(),
            script: self.script.clone(),
            words: self.command.clone(),
        }
    }

    /// What is about to happen, for whoever has to confirm it.
    fn planned<'a>(
        &'a self,
        spoken: &CommandSource,
        variables: Vec<String>,
        way: Way<'a>,
    ) -> PlannedRun<'a> {
        PlannedRun {
            command: spoken.shown(),
            is_script: self.script.is_some(),
            document: self.document.as_deref(),
            cwd: self.cwd.as_deref(),
            variables,
            way,
        }
    }

    /// What every server is asked to run; users are the servers' own.
    fn request(&self, cx: &Context, spoken: &CommandSource) -> Result<Request> {
        if self.detach && self.time_limit.is_some() {
            return Err(Error::usage("--detach and --time-limit do not go together")
                .caused_by("nobody is left there who could end the command")
                .hint("leave out one of them"));
        }
        let profile = &cx.profile()?.exec;
        let reads_targets = self
            .targets_from
            .as_deref()
            .is_some_and(|path| path.as_os_str() == "-");
        let mut request = Request::new(spoken.command()?);
        request.cwd.clone_from(&self.cwd);
        request.env = variables(&self.env_file, &self.env, cx.env())?;
        request.time_limit = self.time_limit;
        request.stdin = !self.detach
            && !reads_targets
            && input::is_given(cx.output(), self.no_stdin, self.interactive);
        request.document = self.document.clone().or_else(|| profile.document.clone());
        request.reason.clone_from(&self.session.reason);
        request.detach = self.detach;
        Ok(request)
    }

    /// What sessions have and Run Command has not.
    fn check_for_run_command(&self, cx: &Context) -> Result<()> {
        let why = if self.tty {
            "-t needs a session, and Run Command has none"
        } else if input::is_given(cx.output(), self.no_stdin, self.interactive) {
            "Run Command gives a command no standard input"
        } else {
            return Ok(());
        };
        let hint = if self.tty {
            "run it by a session: --via session"
        } else {
            "without input: -n; with it by sessions: --via session"
        };
        Err(Error::usage(why).hint(hint))
    }

    /// What Run Command has and sessions have not.
    fn check_for_sessions(&self) -> Result<()> {
        let option = if self.comment.is_some() {
            "--comment"
        } else if !self.parameters.is_empty() {
            "--parameters"
        } else {
            return Ok(());
        };
        // With `auto` the number of servers decides, which is not known yet.
        if self.many.is_auto() {
            return Ok(());
        }
        Err(Error::usage(format!("{option} is for Run Command"))
            .hint("leave it out, or say so: --via run-command"))
    }

    /// What Run Command is asked to do.
    fn fleet_request(&self, cx: &Context, spoken: &CommandSource) -> Result<FleetRequest> {
        let order = match &self.document {
            Some(name) => {
                let mut parameters = document_parameters(&self.parameters)?;
                if !spoken.is_empty() {
                    let line = spoken.shown().as_ref().to_owned();
                    parameters
                        .entry("commands".to_owned())
                        .or_default()
                        .push(line);
                }
                Order::Document {
                    name: name.clone(),
                    parameters,
                }
            }
            None if !self.parameters.is_empty() => {
                return Err(Error::usage("--parameters are those of a --document")
                    .hint("name it: --document NAME"));
            }
            None => Order::Command {
                command: spoken.command()?,
                cwd: self.cwd.clone(),
                env: variables(&self.env_file, &self.env, cx.env())?,
            },
        };
        let criteria = match self.targets_from {
            Some(_) => None,
            None => run_command::criteria(
                cx,
                &self.targets,
                &self.tags,
                self.resource_group.as_deref(),
            )?,
        };
        let request = FleetRequest {
            order,
            comment: self.comment.clone(),
            time_limit: self.time_limit,
            delivery_timeout: cx.globals().timeout,
            detach: self.detach,
            criteria,
        };
        run_command::check(&request)?;
        Ok(request)
    }

    async fn by_run_command(
        &self,
        cx: &Context,
        spoken: &CommandSource,
        form: Option<Form>,
        known: Option<Hosts>,
    ) -> Result<Exit> {
        let request = self.fleet_request(cx, spoken)?;
        let mut hosts = match known {
            Some(hosts) => hosts,
            None => self.hosts(cx).await?,
        };
        if !hosts.are_many
            && let Some(option) = self.many.for_many_alone()
        {
            return Err(Error::usage(format!("{option} is for several servers"))
                .hint("leave it out; a glob means several even where it finds one"));
        }
        let mut options = self.many.manner(cx, hosts.all.len(), form)?;
        options.pass_status |= !hosts.are_many;
        let user = run_command::runs_as(&hosts.all);
        if self.dry_run {
            cx.output().note(format!("by Run Command, as {user}"));
            return show_plan(cx, &hosts, &options.plan, spoken, form);
        }
        if hosts.are_many {
            cx.output().note(format!(
                "on {} servers by Run Command, as {user}",
                hosts.all.len()
            ));
        }
        let variables = request.order.variables();
        let work = self
            .planned(spoken, variables, Way::RunCommand { users: &user })
            .lines(&hosts.all);
        // Of ten thousand servers a copy is megabytes, so that the guard gets the instances
        // themselves and gives them back. Nobody looks at their tags after it, which are a third of
        // them.
        let parts = std::mem::take(&mut hosts.all).into_iter();
        let (mut instances, names): (Vec<_>, Vec<_>) = parts
            .map(|host| (host.instance, (host.user, host.label)))
            .unzip();
        let reason = self.session.reason.as_deref();
        cx.guard_work(Self::NAME, &instances, reason, &work).await?;
        for instance in &mut instances {
            instance.tags.clear();
        }
        let parts = instances.into_iter().zip(names);
        hosts.all = parts
            .map(|(instance, (user, label))| Host {
                instance,
                user,
                label,
            })
            .collect();
        Box::pin(run_command::run(cx, hosts, &request, options)).await
    }

    /// A terminal has one screen and one keyboard, and joins what a command writes.
    fn check_terminal(&self, hosts: &Hosts, has_form: bool) -> Result<()> {
        let is_windows = |host: &Host| ops_remote::exec::is_windows(&host.instance);
        let why = if hosts.are_many {
            "-t is for one server"
        } else if hosts.all.iter().any(is_windows) {
            "-t cannot tell how a command on a Windows server ends"
        } else if has_form {
            "-t and -o do not go together"
        } else if self.document.is_some() {
            "-t and --document do not go together"
        } else {
            return Ok(());
        };
        Err(Error::usage(why).hint("leave out -t; a terminal: ops shell TARGET"))
    }

    async fn hosts(&self, cx: &Context) -> Result<Hosts> {
        let mut targets = self.targets.clone();
        if let Some(path) = &self.targets_from {
            targets.extend(read_targets(path)?);
        }
        let names_none =
            targets.is_empty() && self.tags.is_empty() && self.resource_group.is_none();
        if names_none && cx.output().may_ask() {
            targets = pick_targets(cx, "run it on which servers?").await?;
        } else if names_none {
            return Err(Error::usage("no target was given")
                .hint("name one: ops exec TARGET -- COMMAND; see what there is: ops ls"));
        }
        let selection = Selection {
            targets,
            tags: self.tags.clone(),
            group: self.resource_group.clone(),
            choice: self.session.choice(),
            user: self.user.clone(),
            is_file: self.targets_from.is_some(),
        };
        let found = selection.resolve(cx).await;
        // `ops exec web-1 git log -- x`: the two dashes were meant for the command.
        found.map_err(|error| match self.targets.as_slice() {
            [_, _, ..] if error.kind() == ops_ui::ErrorKind::NotFound => error.hint(
                "all words before -- are targets; put one before the command too: ops exec TARGET -- COMMAND",
            ),
            _ => error,
        })
    }
}

/// Says what would be done; nothing is started, and nobody is asked.
fn show_plan(
    cx: &Context,
    hosts: &Hosts,
    plan: &RolloutPlan,
    spoken: &CommandSource,
    form: Option<Form>,
) -> Result<Exit> {
    let output = cx.output();
    if let Some(form) = form {
        let document = plan_document(hosts, plan, spoken);
        match form {
            Form::Json => output.json(&document)?,
            Form::Yaml => output.yaml(&document)?,
            Form::Jsonl => output.json_line(&document)?,
        }
        return Ok(Exit::SUCCESS);
    }
    let is_divided = plan.batches.len() > 1;
    for (number, batch) in plan.batches.iter().enumerate() {
        if is_divided {
            output.line(format!("{}:", plan.name_of(number)))?;
        }
        for host in &hosts.all[batch.clone()] {
            let indent = if is_divided { 2 } else { 0 };
            // Broken between the parts, where a name of many words leaves no room for all of them.
            let blanks = " ".repeat(indent);
            let pieces = std::iter::once(blanks).chain(parts_of_row(host));
            for line in fill_lines(pieces, output.columns(), 0, indent + 2) {
                output.line(line)?;
            }
        }
    }
    if !output.quiet() {
        output.warn_value("would run:", spoken.shown());
    }
    Ok(Exit::SUCCESS)
}

/// `web-1 (i-0123456789abcdef0) as deploy, stopped`.
fn parts_of_row(host: &Host) -> Vec<String> {
    let mut parts = vec![
        format!("{} ", host.label),
        format!("({}) ", host.instance.id),
    ];
    if let Some(user) = &host.user {
        parts.push(format!("as {} ", ops_ui::text::escape(user)));
    }
    if host.instance.state != InstanceState::Running {
        let before = parts.pop().unwrap_or_default();
        parts.push(format!("{}, ", before.trim_end()));
        parts.push(host.instance.state.as_str().to_owned());
    }
    parts
}

fn plan_document(hosts: &Hosts, plan: &RolloutPlan, spoken: &CommandSource) -> serde_json::Value {
    let host = |host: &Host| {
        serde_json::json!({
            "name": host.instance.label(),
            "id": host.instance.id,
            "region": host.instance.region,
            "user": host.user,
            "state": host.instance.state.as_str(),
        })
    };
    let batches = plan.batches.iter().enumerate();
    let batches: Vec<_> = batches
        .map(|(number, batch)| {
            let items: Vec<_> = hosts.all[batch.clone()].iter().map(host).collect();
            serde_json::json!({ "name": plan.name_of(number), "items": items })
        })
        .collect();
    serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "ExecPlan",
        "command": spoken.shown().as_ref(),
        "batches": batches,
    })
}
