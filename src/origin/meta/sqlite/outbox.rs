//! Messages that are committed with the change that they tell of, and what jobs note for themselves.

use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::super::{DeadLetter, Message, MetaError, TaskRow};
use super::changes::Changes;
use super::columns::{get, signed};
use super::read_failed;
use super::writer::Change;

fn task_row(row: &SqliteRow) -> Result<TaskRow, MetaError> {
    Ok(TaskRow {
        id: get(row, "id")?,
        kind: get(row, "kind")?,
        payload: get(row, "payload")?,
        attempts: get(row, "attempts")?,
        created_ms: get(row, "created_ms")?,
        run_at_ms: get(row, "run_at_ms")?,
        last_error: get(row, "last_error")?,
    })
}

pub(super) async fn due(
    pool: &SqlitePool,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<TaskRow>, MetaError> {
    let rows = sqlx::query(
        "SELECT id, kind, payload, attempts, created_ms, run_at_ms, last_error FROM tasks
         WHERE run_at_ms <= ? ORDER BY run_at_ms, id LIMIT ?",
    )
    .bind(now_ms)
    .bind(signed(limit as u64))
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    rows.iter().map(task_row).collect()
}

pub(super) async fn next_due_ms(pool: &SqlitePool) -> Result<Option<i64>, MetaError> {
    sqlx::query_scalar("SELECT run_at_ms FROM tasks ORDER BY run_at_ms LIMIT 1")
        .fetch_optional(pool)
        .await
        .map_err(read_failed)
}

pub(super) async fn dead_letters(
    pool: &SqlitePool,
    limit: usize,
) -> Result<Vec<DeadLetter>, MetaError> {
    let rows = sqlx::query(
        "SELECT id, kind, payload, attempts, created_ms, died_ms AS run_at_ms, last_error FROM dead_letters
         ORDER BY died_ms DESC, id DESC LIMIT ?",
    )
    .bind(signed(limit as u64))
    .fetch_all(pool)
    .await
    .map_err(read_failed)?;
    rows.iter()
        .map(|row| {
            let task = task_row(row)?;
            let died_ms = task.run_at_ms;
            Ok(DeadLetter { task, died_ms })
        })
        .collect()
}

pub(super) async fn note(pool: &SqlitePool, name: &str) -> Result<Option<String>, MetaError> {
    sqlx::query_scalar("SELECT text FROM notes WHERE name = ?")
        .bind(name)
        .fetch_optional(pool)
        .await
        .map_err(read_failed)
}

/// Writes messages in the transaction of the change that they tell of.
pub(super) async fn enqueue(
    changes: &mut Changes<'_>,
    messages: &[Message],
    version: &str,
) -> Result<(), sqlx::Error> {
    for message in messages {
        sqlx::query(
            "INSERT INTO tasks (kind, payload, attempts, created_ms, run_at_ms) VALUES (?, ?, 0, ?, ?)",
        )
        .bind(message.kind)
        .bind(message.payload.replace("{version}", version))
        .bind(message.run_at_ms)
        .bind(message.run_at_ms)
        .execute(changes.sql())
        .await?;
    }
    Ok(())
}

pub(super) struct Send(pub(super) Vec<Message>);

impl Change for Send {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        enqueue(changes, &self.0, "").await
    }
}

pub(super) struct Done(pub(super) Vec<i64>);

impl Change for Done {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        for task in self.0 {
            sqlx::query("DELETE FROM tasks WHERE id = ?")
                .bind(task)
                .execute(changes.sql())
                .await?;
        }
        Ok(())
    }
}

pub(super) struct PutOff {
    pub(super) task: i64,
    pub(super) run_at_ms: i64,
    pub(super) error: String,
}

impl Change for PutOff {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE tasks SET attempts = attempts + 1, run_at_ms = ?, last_error = ? WHERE id = ?",
        )
        .bind(self.run_at_ms)
        .bind(self.error)
        .bind(self.task)
        .execute(changes.sql())
        .await?;
        Ok(())
    }
}

pub(super) struct GiveUp {
    pub(super) task: i64,
    pub(super) now_ms: i64,
    pub(super) error: String,
}

impl Change for GiveUp {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO dead_letters (id, kind, payload, attempts, created_ms, died_ms, last_error)
             SELECT id, kind, payload, attempts + 1, created_ms, ?, ? FROM tasks WHERE id = ?",
        )
        .bind(self.now_ms)
        .bind(self.error)
        .bind(self.task)
        .execute(changes.sql())
        .await?;
        Done(vec![self.task]).apply(changes).await
    }
}

pub(super) struct Revive {
    pub(super) task: i64,
    pub(super) now_ms: i64,
}

impl Change for Revive {
    type Outcome = bool;
    async fn apply(self, changes: &mut Changes<'_>) -> Result<bool, sqlx::Error> {
        let revived = sqlx::query(
            "INSERT INTO tasks (kind, payload, attempts, created_ms, run_at_ms, last_error)
             SELECT kind, payload, 0, created_ms, ?, last_error FROM dead_letters WHERE id = ?",
        )
        .bind(self.now_ms)
        .bind(self.task)
        .execute(changes.sql())
        .await?;
        sqlx::query("DELETE FROM dead_letters WHERE id = ?")
            .bind(self.task)
            .execute(changes.sql())
            .await?;
        Ok(revived.rows_affected() == 1)
    }
}

pub(super) struct SetNote {
    pub(super) name: &'static str,
    pub(super) text: String,
}

impl Change for SetNote {
    type Outcome = ();
    async fn apply(self, changes: &mut Changes<'_>) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR REPLACE INTO notes (name, text) VALUES (?, ?)")
            .bind(self.name)
            .bind(self.text)
            .execute(changes.sql())
            .await?;
        Ok(())
    }
}
