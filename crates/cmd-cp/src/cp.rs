//! The command.

mod again;
mod fleet;

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ops_core::{
    Choice, Command, Context, Values,
    connect::Urgency,
    guard::{WorkLine, words_line},
    resolve::SessionArgs,
};
use ops_profile::{CopyVia, Instance, Target};
use ops_remote::ssh::client::Login;
use ops_ui::{Error, ErrorKind, Exit, Hint, Result, hint};

use self::fleet::{run_for_each, server_folders};
use crate::{
    arrive::{CheckedListing, claim_names, copy_to_here, list_sources, listing_request},
    clashes::{Claims, refuse_same_names},
    goal::{LocalGoal, is_stdout},
    item::ListRequest,
    leave::{Origin, Outgoing, find_destination, send_outgoing},
    links::Links,
    names::Excluded,
    options::{Options, Overwrite, Rate, Via},
    pace::Pace,
    place::TypedPath,
    progress::Progress,
    relay::copy_between_servers,
    report::Report,
    summary,
    transport::{FirstUse, Server, Transport},
    transport_options::TransportOptions,
    via,
};

/// Sessions to one server where nobody says how many.
const SESSIONS: usize = 4;
/// Servers at a time where nobody says how many.
const PARALLEL: usize = 4;

/// Copy files to, from and between servers
///
/// Either side is a local path or `[USER@]TARGET:PATH`; `-` is standard input or output. Nothing
/// need be installed or open on the server: no sshd, no key, no bucket. Paths on a server may begin
/// with `~`, are relative to the home of the session's user, and globs in them are expanded there:
/// quote them. From a glob of servers each one's files go into a folder of its own; to one, each
/// gets a copy. Every file is written beside its destination, checked by size and SHA-256 on both
/// ends, then renamed.
///
/// `--via session` uses Session Manager's own sessions. Where the account logs its sessions to S3
/// or CloudWatch, WHAT IS COPIED THIS WAY IS IN THAT LOG (port and SSH sessions are not logged); a
/// profile can forbid it: `copy: {deny_via: [session]}`. `--via sftp` logs in to the server's sshd
/// through an SSH session. `--via s3` takes the way over the bucket that the profile names, with
/// presigned addresses. `auto`, the default, takes the best that is permitted; -v tells which.
///
/// Links are copied as links, but for those named themselves. `--links safe`, the default, leaves
/// out those that are absolute or lead out of what is copied, with a note;
/// `all` copies them as they are, `skip` leaves out every link, `follow` copies what they point to
/// (-L). Nothing is ever written through a link below what is named. If some files fail the others
/// go on, and the exit status is 8.
#[derive(clap::Args, Debug)]
pub(crate) struct Cp {
    /// Sources, then the destination
    #[arg(required = true, num_args = 1.., value_name = "SRC… DST")]
    places: Vec<OsString>,
    /// Copy folders with all that is in them
    #[arg(short, long, short_alias = 'R')]
    recursive: bool,
    /// Keep modes and times
    ///
    /// A sparse file arrives with its holes filled.
    #[arg(short, long)]
    preserve: bool,
    /// Copy what links point to
    #[arg(hide_short_help = true, short = 'L', long)]
    dereference: bool,
    /// Copy links as links, those named themselves too
    #[arg(
        hide_short_help = true,
        short = 'P',
        long,
        conflicts_with = "dereference"
    )]
    no_dereference: bool,
    /// Links: safe, all, skip, follow [default: copy.links of the profile, else safe]
    #[arg(
        long,
        hide_short_help = true,
        value_name = "WHICH",
        value_enum,
        hide_possible_values = true,
        conflicts_with = "dereference"
    )]
    links: Option<Links>,
    /// Say what would be copied
    #[arg(long)]
    dry_run: bool,
    /// Leave out what matches: a name anywhere, or a path
    ///
    /// A pattern with a slash is compared with paths below what is named.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Replace files: always (default), ask, never, newer
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    overwrite: Overwrite,
    /// Go on where an interrupted copy has ended
    ///
    /// Keeps what has arrived of a file when interrupted, and goes on from there, once it is
    /// verified.
    #[arg(long)]
    resume: bool,
    /// Leave files alone whose SHA-256 is equal
    #[arg(hide_short_help = true, long)]
    checksum: bool,
    /// Most bytes a second, all together: 500KB, 2MiB
    #[arg(hide_short_help = true, long, value_name = "RATE")]
    limit_rate: Option<Rate>,
    /// Servers at a time
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = PARALLEL, value_parser = at_least_one, allow_negative_numbers = true)]
    parallel: usize,
    /// Sessions to one server at most [default: copy.sessions of the profile, else 4]
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    sessions: Option<usize>,
    /// Compress nothing
    #[arg(hide_short_help = true, long)]
    no_compress: bool,
    /// The way: auto, session, sftp, s3
    ///
    /// [default: copy.via of the profile, else auto]
    #[arg(long, value_name = "WAY", value_enum, hide_possible_values = true)]
    via: Option<Via>,
    /// Act as root on the server, or as USER@
    ///
    /// By sudo, which must ask for no password.
    #[arg(long)]
    sudo: bool,
    /// Private key to log in with, for sftp
    #[arg(
        hide_short_help = true,
        short,
        long,
        value_name = "FILE",
        conflicts_with = "instance_connect"
    )]
    identity: Option<PathBuf>,
    /// Log in with a key made for the moment, pushed by EC2 Instance Connect, for sftp
    #[arg(hide_short_help = true, long)]
    instance_connect: bool,
    #[command(flatten)]
    session: SessionArgs,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err("a number from 1 to 64".to_owned()),
    }
}

/// Servers that one target means, and whether it could mean several.
struct Servers {
    servers: Vec<Server>,
    plural: bool,
}

/// Sources of one target, together.
struct Group {
    target: Target,
    places: Vec<Vec<u8>>,
}

impl Command for Cp {
    const NAME: &'static str = "cp";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ops cp web-1:/var/log/syslog .", "fetch a file"),
        (
            "ops cp -r site/ deploy@web-1:/srv/www/",
            "send a folder, as another user by sudo",
        ),
        (
            "ops cp 'web-*:/var/log/nginx/error.log' logs/",
            "from many: logs/web-1/error.log, …",
        ),
        ("ops cp app.conf 'web-*:/etc/app/' --sudo", "to many"),
        ("ops cp web-1:dump.sql.gz db-1:/tmp/", "from one to another"),
        ("tar c . | ops cp - web-1:/tmp/x.tar", "from a pipe"),
    ];
    const COMPLETES: &'static [(&'static str, Values)] = &[("places", Values::RemotePath)];

    /// `-:PATH` is a path on the server that was used last, and begins as an option does: `@-:PATH`
    /// is the same and does not.
    fn arrange(args: Vec<OsString>, _clap: &clap::Command) -> Vec<OsString> {
        let is_of_last = |arg: &OsString| arg.as_bytes().starts_with(b"-:");
        args.into_iter()
            .map(|arg| match is_of_last(&arg) {
                true => [OsStr::new("@"), arg.as_os_str()].into_iter().collect(),
                false => arg,
            })
            .collect()
    }

    async fn run(mut self, cx: Context) -> Result<Exit> {
        self.ask_for_server(&cx).await?;
        let (sources, destination) = self.read_places()?;
        let options = self.read_options(&cx)?;
        let (groups, origins) = group_sources(sources);
        let choice = self.session.choice();
        let mut known: HashMap<String, Vec<Instance>> = HashMap::new();
        let mut froms = Vec::new();
        for group in &groups {
            froms.push(
                self.find_servers(&cx, &group.target, choice, &mut known)
                    .await?,
            );
        }
        let to = match &destination {
            TypedPath::Remote { target, .. } => {
                Some(self.find_servers(&cx, target, choice, &mut known).await?)
            }
            _ => None,
        };
        let mut instances: Vec<Instance> = Vec::new();
        for server in froms.iter().chain(&to).flat_map(|side| &side.servers) {
            if instances.iter().all(|known| known.id != server.instance.id) {
                instances.push(server.instance.clone());
            }
        }
        let reason = self.session.reason.as_deref();
        cx.guard_work(Self::NAME, &instances, reason, &self.work())
            .await?;

        let handler = cx.interrupt().handle();
        let work = async {
            match (&destination, &to) {
                (TypedPath::Remote { path, .. }, Some(to)) => {
                    self.to_servers(&groups, &froms, &origins, to, path, &options)
                        .await
                }
                _ => self.to_here(&groups, &froms, &destination, &options).await,
            }
        };
        let done = tokio::select! {
            done = Box::pin(work) => done,
            error = handler.wait() => Err(again::tell_what_is_kept(error, &options, self.to_resume())),
        };
        options.report.clear_bars();
        match done {
            Ok(()) => summary::tell_summary(&cx, &options.report, options.dry_run),
            Err(error) => Err(error),
        }
    }
}

impl Cp {
    /// A file of this machine and no server: somebody who is there is asked which, and the file
    /// goes into the home there.
    async fn ask_for_server(&mut self, cx: &Context) -> Result<()> {
        if let [only] = self.places.as_slice()
            && matches!(TypedPath::parse(only)?, TypedPath::Local(_))
            && cx.output().may_ask()
        {
            let instance = cx.pick_server("copy to which server?").await?;
            self.places.push(format!("{}:", instance.id).into());
        }
        Ok(())
    }

    /// What is copied where, for whoever has to confirm it.
    fn work(&self) -> Vec<WorkLine> {
        let words: Vec<_> = self
            .places
            .iter()
            .map(|place| place.to_string_lossy())
            .collect();
        let Some((to, from)) = words.split_last() else {
            return Vec::new();
        };
        let command =
            |words: &[std::borrow::Cow<'_, str>]| Hint::command(words.iter().map(AsRef::as_ref));
        vec![
            words_line("from:", &command(from)),
            words_line("to:", &command(std::slice::from_ref(to))),
        ]
    }

    /// The destination as it was typed.
    fn typed_destination(&self) -> String {
        let last = self.places.last();
        last.map(|place| place.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    fn read_places(&self) -> Result<(Vec<TypedPath>, TypedPath)> {
        let mut places = Vec::new();
        for text in &self.places {
            places.push(TypedPath::parse(text)?);
        }
        let destination = match places.pop() {
            Some(destination) if !places.is_empty() => destination,
            _ => {
                return Err(Error::usage("cp takes a source and a destination")
                    .hint("ops cp SRC… DST; a place on a server is TARGET:PATH"));
            }
        };
        let is_remote = |place: &TypedPath| matches!(place, TypedPath::Remote { .. });
        if !is_remote(&destination) && !places.iter().all(is_remote) {
            return Err(Error::usage("neither side is on a server")
                .caused_by(format!(
                    "`{}` and `{}` are places on this machine",
                    places
                        .iter()
                        .find(|place| !is_remote(place))
                        .map(TypedPath::shown)
                        .unwrap_or_default(),
                    destination.shown()
                ))
                .hint("a place on a server is TARGET:PATH"));
        }
        let standard = |place: &&TypedPath| **place == TypedPath::Standard;
        if places.iter().filter(standard).count() > 0 && places.len() > 1 {
            return Err(Error::usage("standard input goes alone"));
        }
        let destination = match destination {
            TypedPath::Local(path) if is_stdout(&path) => TypedPath::Standard,
            other => other,
        };
        if destination != TypedPath::Standard {
            refuse_same_names(&places, &destination)?;
        }
        Ok((places, destination))
    }

    fn read_options(&self, cx: &Context) -> Result<Options> {
        if self.overwrite == Overwrite::Ask && !self.dry_run && !cx.output().may_ask() {
            return Err(Error::new(
                ErrorKind::Refused,
                "nobody can be asked what to do about files that are there",
            )
            .caused_by("`--overwrite ask` needs a terminal, and neither --no-input nor CI")
            .hint("decide before: --overwrite always, newer or never"));
        }
        let copy = &cx.profile()?.copy;
        let links = match self.links {
            Some(Links::Follow) if self.no_dereference => {
                return Err(Error::usage("-P and `--links follow` say the contrary")
                    .hint("copy links as links: --links safe, or --links all"));
            }
            Some(links) => links,
            None if self.dereference => Links::Follow,
            None => match copy.links.map(Links::from).unwrap_or_default() {
                Links::Follow if self.no_dereference => Links::Safe,
                links => links,
            },
        };
        let transport_options = TransportOptions {
            via: self
                .via
                .map(CopyVia::from)
                .or(copy.via)
                .unwrap_or(CopyVia::Auto),
            deny: copy.deny_via.0.clone(),
            document: copy.document.clone(),
            login: Login::new(
                self.identity.clone(),
                self.instance_connect,
                self.session.reason.clone(),
            ),
        };
        let sessions = self
            .sessions
            .or(copy.sessions.map(usize::from))
            .unwrap_or(SESSIONS);
        let progress = if self.dry_run {
            Progress::hidden()
        } else {
            Progress::new(cx.output())
        };
        Ok(Options {
            recursive: self.recursive,
            preserve: self.preserve,
            follow: links == Links::Follow,
            keep_links: self.no_dereference,
            links,
            dry_run: self.dry_run,
            excluded: Excluded::new(&self.exclude),
            overwrite: self.overwrite,
            resume: self.resume,
            checksum: self.checksum,
            sessions,
            parallel: self.parallel,
            compress: !self.no_compress,
            transport_options,
            pace: Arc::new(Pace::new(self.limit_rate.map(|rate| rate.0))),
            report: Arc::new(Report::new(progress)),
        })
    }

    async fn find_servers(
        &self,
        cx: &Context,
        target: &Target,
        choice: Choice,
        known: &mut HashMap<String, Vec<Instance>>,
    ) -> Result<Servers> {
        let text = target.as_str();
        let plural = target.is_plural() && choice == Choice::Ask;
        let resolved = match known.get(text) {
            Some(instances) => Ok(instances.clone()),
            None if plural => cx.resolve_many(std::slice::from_ref(target)).await,
            None => cx.resolve(target, choice).await.map(|one| vec![one]),
        };
        let instances = resolved.map_err(|error| self.or_a_file_here(target, error))?;
        known.insert(text.to_owned(), instances.clone());
        let urgency = if instances.len() > 1 {
            Urgency::Bulk
        } else {
            Urgency::Interactive
        };
        let servers = instances
            .into_iter()
            .map(|instance| Server {
                cx: cx.clone(),
                instance,
                user: target.user.clone(),
                sudo: self.sudo,
                reason: self.session.reason.clone(),
                urgency,
            })
            .collect();
        Ok(Servers { servers, plural })
    }

    /// `error` about a target, with a hint where what was typed is a file here: a colon in its name
    /// has made a server of its beginning.
    fn or_a_file_here(&self, target: &Target, error: Error) -> Error {
        let is_meant = |text: &&OsString| {
            let place = TypedPath::parse(text);
            matches!(place, Ok(TypedPath::Remote { target: named, .. }) if named == *target)
                && Path::new(text).symlink_metadata().is_ok()
        };
        match self.places.iter().find(is_meant) {
            Some(text) => error.hint(hint!("if you mean the file here: ./{}", text)),
            None => error,
        }
    }

    async fn to_here(
        &self,
        groups: &[Group],
        froms: &[Servers],
        destination: &TypedPath,
        options: &Options,
    ) -> Result<()> {
        let several = groups.len() > 1;
        let jobs: Vec<_> = groups
            .iter()
            .zip(froms)
            .flat_map(|(group, from)| {
                let names = server_folders(from);
                from.servers.iter().zip(names).map(move |(server, under)| {
                    let goal = match destination {
                        TypedPath::Local(path) => LocalGoal::Path {
                            path: path.clone(),
                            under,
                        },
                        _ => LocalGoal::Standard,
                    };
                    (group, server, goal)
                })
            })
            .collect();
        // Bytes of several servers must not get mixed.
        let parallel = match destination {
            TypedPath::Standard => 1,
            _ => options.parallel,
        };
        let alone = jobs.len() == 1;
        if !several || matches!(destination, TypedPath::Standard) {
            // One target: its servers have a folder each, so that a list is compared with itself.
            return run_for_each(
                jobs,
                parallel,
                alone,
                options,
                |(group, server, goal)| async move {
                    let ask = listing_request(&group.places, options);
                    let transport = open_to_fetch(server, &ask, options).await?;
                    let passed = list_sources(server, &*transport, &ask, options).await?;
                    if !matches!(goal, LocalGoal::Standard) {
                        let claims = &mut Claims::below(self.typed_destination());
                        claim_names(server, &passed, claims, |found| goal.claimed_path(found))?;
                    }
                    copy_to_here(server, &*transport, passed, &goal, several, options).await
                },
            )
            .await;
        }
        // All lists are compared before anything is touched.
        let looked = Mutex::new(Vec::new());
        let looked_at = &looked;
        run_for_each(
            jobs,
            parallel,
            alone,
            options,
            |(group, server, goal)| async move {
                let ask = listing_request(&group.places, options);
                let transport = open_to_fetch(server, &ask, options).await?;
                let passed = list_sources(server, &*transport, &ask, options).await?;
                let mut looked = looked_at.lock().unwrap_or_else(PoisonError::into_inner);
                looked.push(ListedSource {
                    server: server.clone(),
                    transport,
                    passed,
                    goal,
                });
                Ok(())
            },
        )
        .await?;
        let looked = looked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut claims = Claims::below(self.typed_destination());
        for source in &looked {
            claim_names(&source.server, &source.passed, &mut claims, |found| {
                source.goal.claimed_path(found)
            })?;
        }
        drop(claims);
        let work = |source: ListedSource| async move {
            let ListedSource {
                server,
                transport,
                passed,
                goal,
            } = source;
            copy_to_here(&server, &*transport, passed, &goal, several, options).await
        };
        run_for_each(looked, parallel, alone, options, work).await
    }

    async fn to_servers(
        &self,
        groups: &[Group],
        froms: &[Servers],
        origins: &[Origin],
        to: &Servers,
        path: &[u8],
        options: &Options,
    ) -> Result<()> {
        if to.servers.len() > 1 && matches!(origins, [Origin::Standard]) {
            return Err(Error::usage("standard input goes to one server only")
                .hint("write it to a file, and copy that"));
        }
        let alone = to.servers.len() == 1;
        let work = |server| self.to_server(groups, froms, origins, server, path, options);
        let jobs = to.servers.iter().collect();
        run_for_each(jobs, options.parallel, alone, options, work).await
    }

    /// Copies everything to one server: all of it is looked at first, so that nothing is touched
    /// where two sources would become one.
    async fn to_server(
        &self,
        groups: &[Group],
        froms: &[Servers],
        origins: &[Origin],
        server: &Server,
        path: &[u8],
        options: &Options,
    ) -> Result<()> {
        let transport =
            via::open_transport(server, &options.transport_options, FirstUse::Store).await?;
        let outgoing: Vec<Outgoing> = origins
            .iter()
            .map(|origin| Outgoing::look_at(origin, options))
            .collect();
        let mut sources = Vec::new();
        for (group, from) in groups.iter().zip(froms) {
            for (source, under) in from.servers.iter().zip(server_folders(from)) {
                let ask = listing_request(&group.places, options);
                let origin = open_to_fetch(source, &ask, options).await?;
                let passed = list_sources(source, &*origin, &ask, options).await?;
                sources.push((source, origin, passed, under));
            }
        }
        let roots: usize = sources.iter().map(|source| source.2.roots).sum();
        if outgoing.is_empty() && roots == 0 {
            return Ok(());
        }
        let mut claims = Claims::below(self.typed_destination());
        for outgoing in &outgoing {
            outgoing.claim_names(&mut claims)?;
        }
        for (source, _, passed, under) in &sources {
            let goal = LocalGoal::Path {
                path: PathBuf::new(),
                under: under.clone(),
            };
            claim_names(source, passed, &mut claims, |found| {
                goal.claimed_path(found)
            })?;
        }
        drop(claims);
        let of_several = sources.iter().any(|source| source.3.is_some());
        let several = origins.len() + roots > 1 || of_several;
        let base = find_destination(server, &*transport, path, several).await?;
        if !outgoing.is_empty() {
            send_outgoing(server, &*transport, outgoing, &base, options).await?;
        }
        for (source, origin, passed, under) in sources {
            let (from, to) = ((source, &*origin), (server, &*transport));
            copy_between_servers(from, passed, to, &base, under.as_deref(), options).await?;
        }
        Ok(())
    }
}

/// Opens the transport to a server that is fetched from.
async fn open_to_fetch(
    server: &Server,
    ask: &ListRequest,
    options: &Options,
) -> Result<Box<dyn Transport>> {
    via::open_transport(server, &options.transport_options, FirstUse::List(ask)).await
}

/// A source that was looked at, and where it goes on this machine.
struct ListedSource {
    server: Server,
    transport: Box<dyn Transport>,
    passed: CheckedListing,
    goal: LocalGoal,
}

/// Sources by target, in the order of their first mention; and those of this machine.
fn group_sources(sources: Vec<TypedPath>) -> (Vec<Group>, Vec<Origin>) {
    let mut groups: Vec<Group> = Vec::new();
    let mut origins = Vec::new();
    for source in sources {
        match source {
            TypedPath::Standard => origins.push(Origin::Standard),
            TypedPath::Local(path) => origins.push(Origin::Path(path)),
            TypedPath::Remote { target, path } => {
                match groups.iter_mut().find(|group| group.target == target) {
                    Some(group) => group.places.push(path),
                    None => groups.push(Group {
                        target,
                        places: vec![path],
                    }),
                }
            }
        }
    }
    (groups, origins)
}
