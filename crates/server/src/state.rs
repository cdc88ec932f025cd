//! The running server: everything that a request may need, made once.

use std::sync::Arc;

use parlor_protocol::ids::{ParticipantId, TokenId};
use parlor_sfu::Media;
use parlor_store::{Db, Error, Place};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::IceServer;
use crate::config::Settings;
use crate::disk::Disk;
use crate::files::underway::Underway;
use crate::files::upkeep::Rounds;
use crate::files::{FileService, Files};
use crate::identity::api_tokens::ApiTokens;
use crate::identity::app_owners::AppOwners;
use crate::identity::signed_links::SignedLinks;
use crate::identity::signing_keys::SigningKeys;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::paging::Pager;
use crate::preset_cache::PresetCache;
use crate::rates::Rates;
use crate::rooms::LiveSessions;
use crate::schema::MIGRATIONS;

/// How often a change that others keep overtaking is tried.
pub(crate) const WRITE_TRIES: usize = 32;

/// What only a server that clients join has.
#[derive(Default)]
pub struct Edge {
    /// ICE servers that browsers are told.
    pub ice_servers: Vec<IceServer>,
    /// The media plane.
    pub media: Option<Media>,
    /// The files of chats.
    pub files: Option<Files>,
}

impl Edge {
    /// From the settings.
    ///
    /// # Errors
    /// When a setting is malformed or names something that cannot be used.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            ice_servers: settings.ice_servers()?,
            media: None,
            files: Some(Files::open(settings)?),
        })
    }
}

/// The running server.
pub struct Parlor {
    /// The records.
    pub db: Db,
    /// Time and ids.
    pub clock: Arc<Clock>,
    /// The keys of join tokens.
    pub keys: Arc<SigningKeys>,
    /// The bounds in force.
    pub limits: Limits,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// The rooms that run.
    pub live: Arc<LiveSessions>,
    /// This process among the records: a time-ordered id of its start.
    pub(crate) process: Uuid,
    /// What clients are told and believed. None of it is needed to serve the REST API.
    pub edge: Edge,
    /// The files of chats.
    pub files: FileService,
    pub(crate) presets: PresetCache,
    pub(crate) rates: Rates<TokenId>,
    pub(crate) uploads: Rates<ParticipantId>,
    pub(crate) pager: Pager,
    /// The API tokens.
    pub tokens: ApiTokens,
    pub(crate) owners: Arc<AppOwners>,
    pub(crate) links: SignedLinks,
}

impl Parlor {
    /// The same server with an edge.
    #[must_use]
    pub fn with_edge(mut self, mut edge: Edge) -> Self {
        self.files.storage = edge.files.take();
        if let Some(media) = &edge.media {
            let _ = self.live.media.set(media.clone());
        }
        Self { edge, ..self }
    }

    /// Opens the database, brings it up to date, and reads or makes the signing keys.
    ///
    /// # Errors
    /// When the database cannot be opened or is of a newer version.
    pub async fn open(place: &Place, limits: Limits) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let options = limits.database.clone();
        let db = Db::open(place, options, Arc::<Metrics>::clone(&metrics)).await?;
        db.migrate(MIGRATIONS).await?;
        let clock = Arc::new(Clock::default());
        let keys = Arc::new(SigningKeys::load(&db, clock.now_ms()).await?);
        let process = clock.new_id(clock.now_ms());
        let owners = Arc::new(AppOwners::new(db.clone(), Arc::clone(&clock)));
        let files = FileService {
            db: db.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            owners: Arc::clone(&owners),
            quotas: limits.quotas.clone(),
            process,
            storage: None,
            underway: Underway::default(),
            rounds: Rounds::default(),
        };
        let live = LiveSessions::new(
            (db.clone(), Arc::clone(&clock), Arc::clone(&metrics)),
            limits.clone(),
            process,
            disk_of(place),
        );
        Ok(Self {
            live: Arc::new(live),
            files,
            pager: Pager::new(db.clone(), Arc::clone(&clock)),
            tokens: ApiTokens::new(db.clone(), Arc::clone(&clock)),
            owners,
            links: SignedLinks::new(Arc::clone(&keys), db.clone(), Arc::clone(&clock)),
            db,
            clock,
            keys,
            rates: Rates::new(limits.requests_per_minute),
            uploads: Rates::new(limits.uploads_per_minute),
            limits,
            metrics,
            process,
            edge: Edge::default(),
            presets: PresetCache::default(),
        })
    }
}

fn disk_of(place: &Place) -> Option<Disk> {
    match place {
        Place::Sqlite(file) => file.parent().map(|folder| {
            let here = folder.as_os_str().is_empty();
            Disk::of(if here {
                std::path::Path::new(".")
            } else {
                folder
            })
        }),
        Place::Postgres(_) => None,
    }
}
