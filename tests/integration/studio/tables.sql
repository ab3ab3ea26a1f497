-- The tables of studio, as its document has them.
CREATE TABLE users (
  _id text PRIMARY KEY, email text NOT NULL UNIQUE, name text, "externalId" text UNIQUE,
  "tokenBalance" integer NOT NULL DEFAULT 0 CHECK ("tokenBalance" >= 0),
  "totalTokensPurchased" integer NOT NULL DEFAULT 0
);
CREATE TABLE files (
  _id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
  "userId" text NOT NULL REFERENCES users (_id) ON DELETE CASCADE,
  category text NOT NULL CHECK (category IN ('product_image', 'model_image', 'generated_image', 'profile_image')),
  "storageId" text NOT NULL UNIQUE,
  url text, width integer, height integer, "sizeBytes" bigint, "createdAt" timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_by_user ON files ("userId");
CREATE TABLE generations (
  _id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
  "userId" text NOT NULL REFERENCES users (_id) ON DELETE CASCADE,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'uploading', 'processing', 'completed', 'failed', 'cancelled')),
  prompt text NOT NULL, parameters jsonb NOT NULL DEFAULT '{}',
  "productImageFiles" text[] NOT NULL DEFAULT '{}', "modelImageFiles" text[] NOT NULL DEFAULT '{}', "resultImageFiles" text[] NOT NULL DEFAULT '{}',
  "tokensUsed" integer NOT NULL, error text, "startedAt" timestamptz, "completedAt" timestamptz,
  "createdAt" timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX generations_by_user_and_created_at ON generations ("userId", "createdAt");
CREATE INDEX generations_by_status ON generations (status);
CREATE TABLE usage (
  _id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
  "userId" text NOT NULL REFERENCES users (_id) ON DELETE CASCADE,
  action text NOT NULL, timestamp timestamptz NOT NULL DEFAULT now(), metadata jsonb NOT NULL DEFAULT '{}'
);
