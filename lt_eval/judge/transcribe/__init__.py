"""Speech to text for both sides of a conversation.

given     the words that the scenario and the system state; nothing is heard
funasr    the paper's Paraformer, from a local folder, in a process of its own
openai    any server with /v1/audio/transcriptions

`hearing.hear` fills in the transcripts of conversations, from a cache keyed by sound and model, and counts how
often the user's known lines are misheard (`wer`).
"""
