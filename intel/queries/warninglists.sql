-- Lists of what is harmless. $1 their feeds
SELECT feed, title, type, entries FROM warninglist WHERE feed = ANY($1) ORDER BY feed;
