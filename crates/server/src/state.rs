//! The state of a running server, shared by all requests.

use std::sync::Arc;

use parlor_protocol::ids::{ParticipantId, TokenId};
use parlor_sfu::Media;
use parlor_store::{DatabaseLocation, Db, Error};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::IceServer;
use crate::config::Settings;
use crate::disk::Disk;
use crate::files::cleanup::CleanupState;
use crate::files::in_progress::InProgress;
use crate::files::{FileService, Files};
use crate::identity::api_tokens::ApiTokens;
use crate::identity::app_owners::AppOwners;
use crate::identity::signed_links::SignedLinks;
use crate::identity::signing_keys::SigningKeys;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::paging::Pager;
use crate::preset_cache::PresetCache;
use crate::rates::RateLimits;
use crate::rooms::LiveSessions;
use crate::schema::MIGRATIONS;

/// The services that only client connections need. A server without them still serves the REST API.
#[derive(Default)]
pub struct Edge {
    /// ICE servers to announce to browsers.
    pub ice_servers: Vec<IceServer>,
    /// Handle of the media plane.
    pub media: Option<Media>,
    /// Storage and records of chat files.
    pub files: Option<Files>,
}

impl Edge {
    /// Opens the storage and reads the ICE servers. The caller starts the media plane.
    ///
    /// # Errors
    /// When a setting is malformed or the storage cannot be opened.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            ice_servers: settings.ice_servers()?,
            media: None,
            files: Some(Files::open(settings)?),
        })
    }
}

/// The state of a running server.
pub struct ServerState {
    /// The database.
    pub db: Db,
    /// Source of times and IDs.
    pub clock: Arc<Clock>,
    /// The keys that sign join tokens.
    pub keys: Arc<SigningKeys>,
    /// The limits in effect.
    pub limits: Limits,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The live meetings.
    pub live: Arc<LiveSessions>,
    /// ID of this process in the database; time-ordered by the start of the process.
    pub(crate) process: Uuid,
    /// The services that only client connections need.
    pub edge: Edge,
    /// Storage and records of chat files.
    pub files: FileService,
    pub(crate) presets: PresetCache,
    pub(crate) rates: RateLimits<TokenId>,
    pub(crate) uploads: RateLimits<ParticipantId>,
    pub(crate) pager: Pager,
    /// API tokens.
    pub tokens: ApiTokens,
    pub(crate) owners: Arc<AppOwners>,
    pub(crate) links: SignedLinks,
}

impl ServerState {
    /// Adds the services that client connections need.
    #[must_use]
    pub fn with_edge(mut self, mut edge: Edge) -> Self {
        self.files.storage = edge.files.take();
        if let Some(media) = &edge.media {
            let _ = self.live.media.set(media.clone());
        }
        Self { edge, ..self }
    }

    /// Opens the database, applies pending migrations, and loads or creates the signing keys.
    ///
    /// # Errors
    /// When the database cannot be opened or has a newer schema than this version knows.
    pub async fn open(location: &DatabaseLocation, limits: Limits) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::default());
        let options = limits.database.clone();
        let db = Db::open(location, options, Arc::<Metrics>::clone(&metrics)).await?;
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
            in_progress: InProgress::default(),
            cleanup: CleanupState::default(),
        };
        let live = LiveSessions::new(
            (db.clone(), Arc::clone(&clock), Arc::clone(&metrics)),
            limits.clone(),
            process,
            disk_of(location),
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
            rates: RateLimits::new(limits.requests_per_minute),
            uploads: RateLimits::new(limits.uploads_per_minute),
            limits,
            metrics,
            process,
            edge: Edge::default(),
            presets: PresetCache::default(),
        })
    }
}

/// The disk of an embedded database.
fn disk_of(location: &DatabaseLocation) -> Option<Disk> {
    match location {
        DatabaseLocation::Sqlite(file) => file.parent().map(|folder| {
            let is_current = folder.as_os_str().is_empty();
            Disk::of(if is_current {
                std::path::Path::new(".")
            } else {
                folder
            })
        }),
        DatabaseLocation::Postgres(_) => None,
    }
}
