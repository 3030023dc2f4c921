"""Monthly partitions of the event tables: status, plan, online conversion, rotation.

The control flow of rotation lives in the database function `rotate_event_partitions`, so that psql and
Supabase's scheduler have it too; conversion needs several transactions and lives here.
"""
