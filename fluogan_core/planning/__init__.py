"""What a recording can show before it is made: the finest separation that its frames tell from an image without a gap."""
