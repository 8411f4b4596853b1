"""PostgreSQL, the truth: connections, migrations and the SQL in files. Nothing else imports psycopg."""
