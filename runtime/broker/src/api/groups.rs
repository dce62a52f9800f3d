//! Classic groups: join, sync, heartbeat, leave, describe, list, delete, and finding the coordinator.
