-- Notes that the guards stand as they should.
SELECT guard.seal();
