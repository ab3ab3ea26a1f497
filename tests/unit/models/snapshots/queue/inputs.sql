-- Which keys and URLs of inputs no worker would read, as far as their text tells. The rules are those of
-- pipelines/keys.py, pipelines/fetching.py and pipelines/addresses.py; a test compares them. "Long" networks are those
-- of IPv6.

-- Encode an id for use as one part of an object's key.
CREATE OR REPLACE FUNCTION darkroom.encoded_id(id text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN id = '' THEN '=' WHEN length(e.encoded) <= 200 THEN e.encoded
                ELSE '=_' || encode(sha256(convert_to(id, 'UTF8')), 'hex') END
    FROM (SELECT string_agg(coalesce(m.part[2], regexp_replace(
                     upper(encode(convert_to(m.part[1], 'UTF8'), 'hex')), '(..)', '=\1', 'g')), '' ORDER BY m.place)
          FROM regexp_matches(id, '([.][.]|^[.]|[^A-Za-z0-9_.-])|(.)', 'g') WITH ORDINALITY m (part, place)) e (encoded)
$$;

-- Return why a worker can't read a key that another program wrote; NULL if it can.
CREATE OR REPLACE FUNCTION darkroom.key_fault(key text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN octet_length(key) NOT BETWEEN 1 AND 1024
        THEN format('it has %s bytes; a key has 1 to 1,024', to_char(octet_length(key), 'FM999,999,999'))
    WHEN '/' || key || '/' ~ '/[.][.]?/' THEN 'it holds a part that is . or ..'
END;

-- Whether a key lies outside a user's prefixes: those that Darkroom writes to, and those of programs that put ids into
-- keys unencoded. Without a user, every key does.
CREATE OR REPLACE FUNCTION darkroom.is_outside(user_id text, key text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN user_id IS NULL OR darkroom.key_fault(key) IS NOT NULL OR '/' || key || '/' LIKE '%//%' OR NOT EXISTS (
    SELECT FROM unnest('{users,mcp-generated,mcp-modified,mcp-input}'::text[]) k (kind)
    CROSS JOIN (VALUES (darkroom.encoded_id(user_id)),
                       (CASE WHEN user_id !~ '[/=]' AND user_id NOT IN ('', '.', '..') THEN user_id END)) p (part)
    WHERE starts_with(key, k.kind || '/' || p.part || '/'));

-- Whether a worker may connect to an address; IPv6 addresses that contain an IPv4 address are left to the worker.
CREATE OR REPLACE FUNCTION darkroom.is_public(address inet) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN family(address) = 4 THEN NOT address <<= ANY (
        '{0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16/32, 169.254.0.0/16, 172.16.0.0/12,
          192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24,
          224.0.0.0/3}'::inet[])
    ELSE address <<= ANY ('{2000::/3, 64:ff9b::/96}'::inet[])
         AND NOT address <<= ANY ('{2001::/23, 2001:db8::/32, 3fff::/20}'::inet[])
END;

-- Return why a worker wouldn't fetch a URL, without repeating the URL, which may contain a key. NULL if its text is
-- allowed: to which address the host's name leads is found out only by the worker.
CREATE OR REPLACE FUNCTION darkroom.url_fault(url text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    authority text := substring(url FROM '^[^/?#]*://([^/?#]*)');
    parts text[] := regexp_match(authority, '^(?:\[([^]]*)\]|([^:]*))(?::([0-9]{0,5}))?$');
    is_loopback boolean := coalesce(darkroom.setting('fetch_allow_loopback') = 'true', false);
    port integer := nullif(parts[3], '')::integer;
    address inet;
BEGIN
    IF length(url) > 2000 THEN
        RETURN format('has %s characters; the limit is 2,000', to_char(length(url), 'FM999,999,999'));
    ELSIF url ~ '[\u0001-\u0020\u007f-\u00a0\\]' THEN
        RETURN 'holds a space, a backslash or a control character';
    ELSIF url !~* '^https?://[^/?#]' OR parts[2] = '' OR parts[2] LIKE '%\%%' THEN
        RETURN 'starts with neither http:// nor https://, or names no host';
    ELSIF authority LIKE '%@%' THEN
        RETURN 'holds a user name';
    ELSIF url IS NOT NULL AND (parts IS NULL OR port > 65535) THEN
        RETURN 'is no valid URL';
    ELSIF port NOT IN (80, 443) AND NOT is_loopback THEN
        RETURN format('has port %s; allowed are 80 and 443', port);
    END IF;
    IF parts[1] IS NOT NULL OR parts[2] ~ '^(0|[1-9][0-9]{0,2})([.](0|[1-9][0-9]{0,2})){3}$' THEN
        address := coalesce(parts[1], parts[2])::inet;
        IF address <<= '::ffff:0:0/96' THEN
            address := substring(host(address) FROM '[^:]*$')::inet;  -- treated as the IPv4 address that it contains
        END IF;
    ELSIF lower(rtrim(parts[2], '.')) ~ '(^|[.])localhost$' THEN
        address := '127.0.0.1';
    END IF;
    IF address IS NOT NULL AND NOT darkroom.is_public(address)
            AND NOT (is_loopback AND address <<= ANY ('{127.0.0.0/8,::1}'::inet[])) THEN
        RETURN 'names a host that isn''t a public one';
    END IF;
    RETURN NULL;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN 'is no valid URL';
END $$;
