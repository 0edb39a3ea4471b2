BEGIN TRANSACTION;
CREATE TABLE accounts (
            day TEXT NOT NULL, roaster TEXT NOT NULL, field TEXT NOT NULL, model TEXT NOT NULL,
            price_version INTEGER NOT NULL REFERENCES prices,
            success INTEGER NOT NULL, error INTEGER NOT NULL, rate_limited INTEGER NOT NULL,
            cached INTEGER NOT NULL, fallback INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            cost_picodollars INTEGER NOT NULL, estimated_cost_picodollars INTEGER NOT NULL,
            late_cost_picodollars INTEGER NOT NULL,
            batch_items INTEGER NOT NULL, batch_slots INTEGER NOT NULL,
            PRIMARY KEY (day, roaster, field, model, price_version)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "accounts" VALUES('2027-01-14','blue-tokai','notes','deepseek-chat',1,0,0,0,0,1,10,0,1,3800000,0,3800000,0,0);
INSERT INTO "accounts" VALUES('2027-01-15','blue-tokai','notes','deepseek-chat',1,2,0,1,0,0,1010,0,101,383800000,0,0,4,5);
INSERT INTO "accounts" VALUES('2027-01-15','blue-tokai','notes','nobody-prices-this',0,1,0,0,0,0,7,0,3,0,0,0,0,0);
INSERT INTO "accounts" VALUES('2027-01-15','blue-tokai','other','deepseek-chat',1,1,0,0,0,0,1000,0,100,380000000,0,0,0,0);
INSERT INTO "accounts" VALUES('2027-01-15','blue-tokai','weight','deepseek-chat',1,1,0,0,0,0,1000,0,100,380000000,0,0,0,0);
INSERT INTO "accounts" VALUES('2027-01-15','say "hi" \ {x="y"} # HELP','notes','deepseek-chat',1,0,1,0,0,0,100,0,0,27000000,27000000,0,0,0);
INSERT INTO "accounts" VALUES('2027-01-15','subko','tags','deepseek-chat',1,1,0,0,1,0,100,400,20,77000000,0,0,0,0);
CREATE TABLE adjustments (
            id INTEGER PRIMARY KEY, day TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('grant', 'reset')),
            picodollars INTEGER NOT NULL, reason TEXT NOT NULL, author TEXT NOT NULL,
            time REAL NOT NULL
        ) STRICT;
INSERT INTO "adjustments" VALUES(1,'2027-01-15','reset',1247800000,'golden','tests',1800014400.0);
INSERT INTO "adjustments" VALUES(2,'2027-01-15','grant',5000000000000,'golden','tests',1800014400.0);
CREATE TABLE calendars (
            valid_from INTEGER PRIMARY KEY, timezone TEXT NOT NULL, day_starts_at TEXT NOT NULL,
            previous_day TEXT NOT NULL
        ) STRICT;
INSERT INTO "calendars" VALUES(0,'Europe/Berlin','06:00:00','0001-01-01');
CREATE TABLE event_ids_2981 (digest BLOB PRIMARY KEY, content BLOB NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "event_ids_2981" VALUES(X'433C6C6219C78FE44A2D5260FE565237',X'D14360D4706589C443535786115C8827');
INSERT INTO "event_ids_2981" VALUES(X'AD00C0E79C77DDEBDA6EEEEA7071C468',X'C9F7AD977844688E83AA9F8D6BC57C6A');
CREATE TABLE log_positions (
            device TEXT NOT NULL, inode TEXT NOT NULL, log TEXT NOT NULL,
            offset INTEGER NOT NULL, fingerprint BLOB NOT NULL, in_long_line INTEGER NOT NULL,
            recorded REAL NOT NULL,
            PRIMARY KEY (device, inode)
        ) STRICT, WITHOUT ROWID;
CREATE TABLE logs (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO "meta" VALUES('ledger_id','0123456789abcdef');
INSERT INTO "meta" VALUES('last_commit','1800014400.0');
CREATE TABLE "prices" (
            version INTEGER PRIMARY KEY,
            model TEXT NOT NULL, source TEXT NOT NULL,
            provider TEXT NOT NULL, validity TEXT NOT NULL,
            input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL,
            UNIQUE (model, source, provider, validity, input, cached_input, output)
        ) STRICT;
INSERT INTO "prices" VALUES(0,'','unpriced','','',0,0,0);
INSERT INTO "prices" VALUES(1,'deepseek-chat','budget.yml','','',270000,70000,1100000);
CREATE TABLE reprices (
            id INTEGER PRIMARY KEY, time REAL NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
            day TEXT NOT NULL, label TEXT NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL,
            price_version INTEGER NOT NULL REFERENCES prices,
            input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL, cost_picodollars INTEGER NOT NULL
        ) STRICT;
CREATE TABLE unpriced (
            id INTEGER PRIMARY KEY,
            day TEXT NOT NULL, minute INTEGER NOT NULL,
            roaster TEXT NOT NULL, field TEXT NOT NULL, label TEXT NOT NULL,
            model TEXT NOT NULL, provider TEXT NOT NULL,
            estimated INTEGER NOT NULL, extras INTEGER NOT NULL,
            largest_prompt INTEGER NOT NULL,
            success INTEGER NOT NULL, error INTEGER NOT NULL, rate_limited INTEGER NOT NULL,
            cached INTEGER NOT NULL, fallback INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            batch_items INTEGER NOT NULL, batch_slots INTEGER NOT NULL, extra_cache_write INTEGER NOT NULL DEFAULT 0, extra_cache_write_1h INTEGER NOT NULL DEFAULT 0, extra_input_audio INTEGER NOT NULL DEFAULT 0, extra_cached_audio INTEGER NOT NULL DEFAULT 0, extra_output_audio INTEGER NOT NULL DEFAULT 0, extra_input_image INTEGER NOT NULL DEFAULT 0, extra_cached_image INTEGER NOT NULL DEFAULT 0, extra_output_image INTEGER NOT NULL DEFAULT 0, extra_input_video INTEGER NOT NULL DEFAULT 0, extra_cached_video INTEGER NOT NULL DEFAULT 0, extra_output_video INTEGER NOT NULL DEFAULT 0, extra_unexplained INTEGER NOT NULL DEFAULT 0,
            UNIQUE (day, minute, roaster, field, label, model, provider, estimated, extras)
        ) STRICT;
INSERT INTO "unpriced" VALUES(1,'2027-01-15',30000240,'blue-tokai','notes','nobody-prices-this','nobody-prices-this','deepseek',0,0,7,1,0,0,0,0,7,0,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0);
COMMIT;
PRAGMA user_version = 4;
