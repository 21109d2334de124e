"""What other programs wrote: tables of any script, and logs of other harnesses."""
