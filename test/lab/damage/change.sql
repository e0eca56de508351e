-- After the old blocks were copied: what makes them old.
UPDATE lab.moving SET version = 2, body = 'second version of ' || id WHERE id % 3 = 0;
UPDATE lab.moving SET big = repeat(md5('new' || id), 210) WHERE big IS NOT NULL AND id % 80 = 0;
DELETE FROM lab.moving WHERE id % 7 = 0;
VACUUM lab.moving;
INSERT INTO lab.moving SELECT i, 3, 'late row ' || i, NULL FROM generate_series(4001, 4400) i;
-- Nobody removes these: a map from before calls their blocks all-visible.
DELETE FROM lab.moving WHERE id % 50 = 1;
DELETE FROM lab.ledger WHERE id % 50 = 0;
UPDATE lab.ledger SET note = note || '!' WHERE id % 90 = 1;
VACUUM lab.ledger;
DELETE FROM lab.things WHERE id % 100 = 0;
UPDATE lab.things SET amount = amount + 1 WHERE id % 60 = 1;
UPDATE lab.frozen SET note = 'changed ' || id WHERE id > 2900;
