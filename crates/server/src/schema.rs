//! The database schema.

use parlor_store::Migration;

/// All migrations, in order.
pub static MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_init",
        sql: include_str!("../../../migrations/0001_init.sql"),
    },
    Migration {
        name: "0002_live",
        sql: include_str!("../../../migrations/0002_live.sql"),
    },
    Migration {
        name: "0003_peer_reports",
        sql: include_str!("../../../migrations/0003_peer_reports.sql"),
    },
    Migration {
        name: "0004_usage",
        sql: include_str!("../../../migrations/0004_usage.sql"),
    },
    Migration {
        name: "0005_settled_time",
        sql: include_str!("../../../migrations/0005_settled_time.sql"),
    },
    Migration {
        name: "0006_removed_rooms",
        sql: include_str!("../../../migrations/0006_removed_rooms.sql"),
    },
];
